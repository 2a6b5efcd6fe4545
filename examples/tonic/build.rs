//! Writes server and client of the service from this description: no `.proto` file, no `protoc`.

use tonic_build::manual::{Builder, Method, Service};

fn main() {
    let method = |name: &str, route: &str| {
        Method::builder()
            .name(name)
            .route_name(route)
            .input_type("crate::Name")
            .output_type("crate::File")
            .codec_path("tonic_prost::ProstCodec")
            .build()
    };
    let files = Service::builder().name("Files").package("files");
    let files = files.method(method("read", "Read")).method(method("delete", "Delete")).build();
    Builder::new().compile(&[files]);
}
