//! Steps of the quickstart.
