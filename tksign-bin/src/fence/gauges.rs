use crate::http::{Kind, family};
use crate::service::Service;

/// What alert rules ask about whether the signer does its work (`packaging/alerts.yml`).
pub(crate) fn gauges(service: &Service, page: &mut String) {
    let now = service.clock.now();
    let (head, until) = service.writer.read(|memory| {
        let head = memory.head.as_ref().map(|head| (head.issued_at, head.valid_until));
        (head, memory.publication_keys(now).first().map(|(end, _)| *end))
    });
    let seconds = |time: Option<tkcore::Timestamp>| time.map_or(0, |time| time.millis() / 1000);
    for (name, help, value) in [
        (
            "tksign_read_only",
            "1 while nothing is minted or published.",
            u64::from(service.read_only.is_some()),
        ),
        (
            "tksign_head_issued_seconds",
            "When the last head was signed.",
            seconds(head.map(|(issued, _)| issued)),
        ),
        ("tksign_head_valid_until_seconds", "Until when it counts.", seconds(head.map(|(_, until)| until))),
        ("tksign_publication_key_until_seconds", "When the publication key in use ends.", seconds(until)),
    ] {
        family(page, Kind::Gauge, (name, help), [("", value)]);
    }
}
