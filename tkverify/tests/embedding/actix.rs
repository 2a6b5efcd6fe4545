//! actix-web's middleware and extractors.

use actix_web::dev::ServiceResponse;
use actix_web::http::header::AUTHORIZATION;
use actix_web::test::{TestRequest, call_service, init_service, read_body};
use actix_web::{App, web};
use tkverify::Verifier;
use tkverify::actix::{Bearer, Granted, Guard};
use tkverify::testing::{Kit, Spec};
use tkverify::web::{Facts, Refused};

use crate::{needs, reader};

fn get(path: &str, authorization: &[&str]) -> TestRequest {
    let request = TestRequest::get().uri(path).peer_addr("10.0.0.9:4000".parse().unwrap());
    let add = |request: TestRequest, value: &&str| request.append_header((AUTHORIZATION, *value));
    authorization.iter().fold(request, add)
}

async fn read(response: ServiceResponse<impl actix_web::body::MessageBody>) -> (u16, String) {
    let status = response.status().as_u16();
    (status, String::from_utf8(read_body(response).await.to_vec()).unwrap())
}

#[test]
fn a_middleware_and_an_extractor() {
    actix_web::rt::System::new().block_on(async {
        let kit = Kit::new();
        let guard = Guard::new(kit.verifier(), |asked| {
            let facts = Facts::new(asked.param("tenant")?.into_owned()).action(asked.usual_action());
            Some(facts.ip("ip", asked.peer()?.ip()))
        });
        let app = init_service(
            App::new()
                .service(
                    web::resource("/{tenant}/projects/{id}")
                        .wrap(guard)
                        .to(async |granted: Granted| granted.0.subject().unwrap_or("nobody").to_owned()),
                )
                .service(web::resource("/bare").to(async |_: Granted| "never")),
        )
        .await;
        let spec = Spec::new("acme").subject("user:7").caveat("action in read").caveat("ip = 10.0.0.9");
        let token = kit.header(&kit.mint(&spec));
        for _ in 0..2 {
            let answer =
                read(call_service(&app, get("/acme/projects/7", &[&token]).to_request()).await).await;
            assert_eq!(answer, (200, "user:7".to_owned()));
        }
        assert_eq!(kit.signer().asked(), 1);

        let response = call_service(&app, get("/acme/projects/7", &[]).to_request()).await;
        let challenges: Vec<_> = response.headers().get_all("www-authenticate").collect();
        assert_eq!(challenges, ["Bearer", "Macaroon"]);
        assert_eq!(response.headers().get("content-type").unwrap(), "application/problem+json");
        let (status, body) = read(response).await;
        assert_eq!((status, body.contains("\"missing\"")), (401, true), "{body}");

        let (status, body) =
            read(call_service(&app, get("/beta/projects/7", &[&token]).to_request()).await).await;
        assert_eq!((status, body.contains("wrong-tenant")), (403, true), "{body}");
        let two = get("/acme/projects/7", &[&token, &token]);
        assert_eq!(call_service(&app, two.to_request()).await.status(), 401);
        let (status, body) = read(call_service(&app, get("/bare", &[&token]).to_request()).await).await;
        assert_eq!((status, body.contains("\"internal\"")), (503, true), "{body}");
        kit.signer().stop();
        let new = kit.header(&reader(&kit));
        let response = call_service(&app, get("/acme/projects/7", &[&new]).to_request()).await;
        assert_eq!(response.headers().get("retry-after").unwrap(), "5");
        assert_eq!(response.status(), 503);
    });
}

#[test]
fn optional_grants_open_paths_and_handlers_that_ask_themselves() {
    async fn order(verifier: web::Data<Verifier>, bearer: Bearer) -> Result<String, Refused> {
        let grant = bearer.check(&verifier, Facts::new("acme").action("read")).await?;
        Ok(grant.tenant().to_owned())
    }
    actix_web::rt::System::new().block_on(async {
        let kit = Kit::new();
        let page = async |granted: Option<Granted>| format!("{}", granted.is_some());
        let app = init_service(
            App::new()
                .app_data(web::Data::new(kit.verifier()))
                .service(web::resource("/order").to(order))
                .service(
                    web::scope("")
                        .wrap(Guard::new(kit.verifier(), needs))
                        .route("/page", web::get().to(page))
                        .route("/healthz", web::get().to(page)),
                ),
        )
        .await;
        let token = kit.header(&reader(&kit));
        for (path, authorization, status, body) in [
            ("/page", vec![], 200, "false"),
            ("/page", vec![token.as_str()], 200, "true"),
            ("/healthz", vec!["Bearer tk1_x"], 200, "false"),
            ("/order", vec![token.as_str()], 200, "acme"),
        ] {
            let answer = read(call_service(&app, get(path, &authorization).to_request()).await).await;
            assert_eq!(answer, (status, body.to_owned()), "{path}");
        }
        assert_eq!(call_service(&app, get("/page", &["Bearer tk1_x"]).to_request()).await.status(), 401);
        assert_eq!(call_service(&app, get("/order", &[]).to_request()).await.status(), 401);
        let new = kit.header(&reader(&kit));
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let traced = get("/order", &[&new]).insert_header(("traceparent", parent)).to_request();
        assert_eq!(call_service(&app, traced).await.status(), 200);
        assert_eq!(kit.signer().traced().unwrap().parent[1], 0xf0);
        assert_eq!(call_service(&app, get("/elsewhere", &[&token]).to_request()).await.status(), 403);
    });
}
