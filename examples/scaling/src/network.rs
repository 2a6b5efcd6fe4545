//! Requests and answers, with the time that they take.

use tkcore::revocation::FeedPath;
use tkcore::revocation::feed::{Fetch, Response};

use crate::Near;
use crate::region::NEAR;
use crate::world::{Event, World};

impl World {
    /// Answers all who wait, one after the other.
    pub(crate) fn wake(&mut self) {
        let head = self.signer.get(FeedPath::Head);
        for (service, fetch) in std::mem::take(&mut self.waiting) {
            let micros = self.region.queue(self.now) + self.region.far() / 2;
            self.answer(micros, service, fetch, head.clone());
        }
    }

    pub(crate) fn ask(&mut self, service: usize, fetch: Fetch) {
        let (now, near) = (self.now, self.region.scene.near);
        self.region.asked(now, 0);
        if self.region.is_out(now) {
            return self.answer(NEAR, service, fetch, Response::Failed);
        }
        let origin = self.signer.get(fetch.path);
        match (fetch.path, near) {
            (FeedPath::Wait { after }, Near::Cache | Near::Signer) => {
                self.region.asked(now, 1);
                if after == self.signer.publisher.position() {
                    return self.waiting.push((service, fetch));
                }
                let micros = self.region.queue(now) + self.region.far();
                self.answer(micros, service, fetch, origin);
            }
            (FeedPath::Wait { .. }, Near::Cdn) => self.answer(NEAR, service, fetch, Response::NotFound),
            (_, Near::Signer) => {
                self.region.asked(now, 1);
                let micros = self.region.queue(now) + self.region.far();
                self.answer(micros, service, fetch, origin);
            }
            (path, Near::Cdn | Near::Cache) => {
                let (micros, response) = self.region.cached(now, path, origin);
                self.answer(micros, service, fetch, response);
            }
        }
    }

    fn answer(&mut self, micros: u64, service: usize, fetch: Fetch, response: Response) {
        let known = self.services[service].head_bytes();
        let response = match response {
            Response::Body(bytes) if fetch.conditional && known == Some(&bytes) => Response::NotModified,
            other => other,
        };
        self.region.sent(self.now, &response);
        self.later(micros, Event::Answer(service, fetch, response));
    }
}
