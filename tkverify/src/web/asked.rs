//! What a service can see of a request when it says what the request needs.

use std::borrow::Cow;
use std::net::SocketAddr;

/// A request as the peer sent it, for the function that says what it needs: method, path, matched
/// route, peer, header fields. Nothing here is vouched for; the function decides what of it counts.
pub struct Asked<'a> {
    method: &'a str,
    path: &'a str,
    query: Option<&'a str>,
    route: Option<&'a str>,
    peer: Option<SocketAddr>,
    headers: &'a dyn Headers,
    #[cfg(feature = "tower")]
    extensions: Option<&'a http::Extensions>,
}

/// Header fields of whatever framework.
pub(crate) trait Headers {
    /// The first field of that name.
    fn first(&self, name: &str) -> Option<&[u8]>;
}

impl Headers for () {
    fn first(&self, _: &str) -> Option<&[u8]> {
        None
    }
}

impl<'a> Asked<'a> {
    /// A request with this method and path.
    #[must_use]
    pub fn new(method: &'a str, path: &'a str) -> Self {
        Self {
            method,
            path,
            query: None,
            route: None,
            peer: None,
            headers: &(),
            #[cfg(feature = "tower")]
            extensions: None,
        }
    }

    /// With the template that the router matched, such as `/{tenant}/projects/{project}`.
    #[must_use]
    pub const fn with_route(mut self, route: &'a str) -> Self {
        self.route = Some(route);
        self
    }

    /// With the address at the other end of the connection.
    #[must_use]
    pub const fn with_peer(mut self, peer: SocketAddr) -> Self {
        self.peer = Some(peer);
        self
    }

    /// With what stands behind the path's question mark.
    #[must_use]
    pub const fn with_query(mut self, query: &'a str) -> Self {
        self.query = Some(query);
        self
    }

    #[cfg(any(feature = "tower", feature = "actix"))]
    pub(crate) const fn with_headers(mut self, headers: &'a dyn Headers) -> Self {
        self.headers = headers;
        self
    }

    #[cfg(feature = "tower")]
    pub(crate) const fn with_extensions(mut self, extensions: &'a http::Extensions) -> Self {
        self.extensions = Some(extensions);
        self
    }

    /// The method, as it was sent.
    #[must_use]
    pub const fn method(&self) -> &'a str {
        self.method
    }

    /// `read` for GET, HEAD and OPTIONS, `write` for every other method: for services that need
    /// no finer actions.
    #[must_use]
    pub fn usual_action(&self) -> &'static str {
        match self.method {
            "GET" | "HEAD" | "OPTIONS" => "read",
            _ => "write",
        }
    }

    /// The whole path, also inside a nested router, percent signs as they were sent. Stated as a
    /// fact it must be of the one form that caveats compare: one with a percent sign or `..` refuses.
    #[must_use]
    pub const fn path(&self) -> &'a str {
        self.path
    }

    /// What stands behind the question mark.
    #[must_use]
    pub const fn query(&self) -> Option<&'a str> {
        self.query
    }

    /// The template that the router matched. `None` where no router has looked yet: put the guard
    /// behind the router (axum: `route_layer`).
    #[must_use]
    pub const fn route(&self) -> Option<&'a str> {
        self.route
    }

    /// What the path has in the place of `{name}` in the matched template, decoded: what a
    /// handler gets. `{*name}` takes the rest of the path. `None` without a matched template, for a
    /// name that it does not have, and for what does not decode to UTF-8.
    #[must_use]
    pub fn param(&self, name: &str) -> Option<Cow<'a, str>> {
        let mut path = Some(self.path.strip_prefix('/')?);
        for place in self.route?.strip_prefix('/')?.split('/') {
            let here = path?;
            let inside = place.strip_prefix('{').and_then(|place| place.strip_suffix('}'));
            // actix writes patterns behind a colon.
            let inside = inside.map(|inside| inside.split_once(':').unwrap_or((inside, "")));
            if let Some((rest, "")) = inside
                && let Some(rest) = rest.strip_prefix('*')
            {
                return if rest == name { decoded(here) } else { None };
            }
            let (segment, after) = match here.split_once('/') {
                Some((segment, after)) => (segment, Some(after)),
                None => (here, None),
            };
            match inside {
                Some((inside, pattern)) if inside == name => {
                    // A pattern may match more than one segment.
                    return if pattern.is_empty() { decoded(segment) } else { None };
                }
                Some((_, pattern)) if !pattern.is_empty() => return None,
                Some(_) | None => path = after,
            }
        }
        None
    }

    /// The segment of the path at `index`, counted from 0, decoded.
    #[must_use]
    pub fn segment(&self, index: usize) -> Option<Cow<'a, str>> {
        decoded(self.path.strip_prefix('/')?.split('/').nth(index)?)
    }

    /// The address at the other end of the connection, where the server says it: behind a proxy,
    /// the proxy's. What a header field claims of an address is not looked at.
    ///
    /// **Where it is `None`** (a Unix socket, a server of your own that leaves no `tower::Peer`) and
    /// your tokens speak of addresses, answer [`Needs::Unknown`](super::Needs): an optional caveat (`ip? in …`)
    /// admits a request that states no address.
    #[must_use]
    pub const fn peer(&self) -> Option<SocketAddr> {
        self.peer
    }

    /// The first header field of that name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&'a [u8]> {
        self.headers.first(name)
    }

    /// What earlier layers left with the request, such as a client certificate's name. `None` in
    /// frameworks that have no [`http::Extensions`].
    #[cfg(feature = "tower")]
    #[must_use]
    pub fn extension<T: Clone + Send + Sync + 'static>(&self) -> Option<&'a T> {
        self.extensions?.get()
    }
}

impl std::fmt::Debug for Asked<'_> {
    /// Without header fields: one of them is the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Asked")
            .field("method", &self.method)
            .field("path", &self.path)
            .field("route", &self.route)
            .field("peer", &self.peer)
            .finish_non_exhaustive()
    }
}

/// Percent-decoded; `None` for a broken escape or no UTF-8.
fn decoded(text: &str) -> Option<Cow<'_, str>> {
    if !text.contains('%') {
        return Some(Cow::Borrowed(text));
    }
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                u8::try_from(high << 4 | low).ok()?
            }
            other => other,
        });
    }
    String::from_utf8(bytes).ok().map(Cow::Owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_is_what_a_handler_gets() {
        let asked = |path: &'static str, route: &'static str| Asked::new("GET", path).with_route(route);
        let project = "/{tenant}/projects/{project}";
        let at = asked("/acme/projects/17", project);
        assert_eq!(at.param("tenant").as_deref(), Some("acme"));
        assert_eq!(at.param("project").as_deref(), Some("17"));
        assert_eq!((at.param("projects"), at.param("other")), (None, None));
        assert_eq!(asked("/a%20b/projects/%C3%A9", project).param("tenant").as_deref(), Some("a b"));
        assert_eq!(asked("/a%20b/projects/%C3%A9", project).param("project").as_deref(), Some("é"));
        for broken in ["/x/projects/%", "/x/projects/%4", "/x/projects/%zz", "/x/projects/%ff"] {
            assert_eq!(asked(broken, project).param("project"), None, "{broken}");
        }
        let files = asked("/files/a/b%2Fc", "/files/{*path}");
        assert_eq!(files.param("path").as_deref(), Some("a/b/c"));
        assert_eq!(files.segment(1).as_deref(), Some("a"));
        // Behind a pattern that may match anything, nothing is counted on.
        assert_eq!(asked("/a/b/c", "/{x:.*}/{y}").param("y"), None);
        assert_eq!(Asked::new("GET", "/a").param("x"), None);
        assert_eq!(asked("/acme", project).param("project"), None);
    }
}
