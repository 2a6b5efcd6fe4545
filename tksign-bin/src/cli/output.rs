//! Tables for people, JSON for programs, from the same facts.

use clap::ArgMatches;
use tkcore::{Json, Timestamp};

use super::{Failure, Streams, values};

/// One thing that is shown: named facts in order. A fact that is not there is `null` for
/// programs and `-` for people.
#[derive(Debug, Default)]
pub(super) struct Facts(Vec<(&'static str, Json)>);

impl Facts {
    pub(super) fn with(mut self, name: &'static str, value: impl Into<Json>) -> Self {
        self.0.push((name, value.into()));
        self
    }

    pub(super) fn with_text(self, name: &'static str, value: impl ToString) -> Self {
        self.with(name, value.to_string())
    }

    pub(super) fn with_maybe(self, name: &'static str, value: Option<impl ToString>) -> Self {
        self.with(name, value.map_or(Json::Null, |value| value.to_string().into()))
    }

    pub(super) fn with_time(self, name: &'static str, value: Option<Timestamp>) -> Self {
        self.with_maybe(name, value)
    }

    fn into_json(self) -> Json {
        Json::object(self.0)
    }
}

fn cell(value: &Json) -> String {
    match value {
        Json::Null => "-".to_owned(),
        Json::Text(text) => text.clone(),
        other => other.to_string(),
    }
}

/// Shows one thing: a line a fact.
pub(super) fn show(matches: &ArgMatches, streams: &mut Streams<'_>, facts: Facts) -> Result<(), Failure> {
    if values::set(matches, "json") {
        writeln!(streams.stdout, "{}", facts.into_json())?;
        return Ok(());
    }
    let width = facts.0.iter().map(|(name, _)| name.len()).max().unwrap_or(0);
    for (name, value) in &facts.0 {
        writeln!(streams.stdout, "{name:width$}  {}", cell(value))?;
    }
    Ok(())
}

/// Shows a list: a table, or a JSON object a line.
pub(super) fn list(matches: &ArgMatches, streams: &mut Streams<'_>, rows: Vec<Facts>) -> Result<(), Failure> {
    if values::set(matches, "json") {
        for row in rows {
            writeln!(streams.stdout, "{}", row.into_json())?;
        }
        return Ok(());
    }
    let Some(first) = rows.first() else { return Ok(()) };
    let mut lines = vec![first.0.iter().map(|(name, _)| name.to_uppercase()).collect::<Vec<_>>()];
    lines.extend(rows.iter().map(|row| row.0.iter().map(|(_, value)| cell(value)).collect()));
    let columns = lines.first().map_or(0, Vec::len);
    let widths: Vec<_> = (0..columns)
        .map(|at| {
            lines.iter().filter_map(|line| line.get(at)).map(|cell| cell.chars().count()).max().unwrap_or(0)
        })
        .collect();
    for line in lines {
        let text =
            line.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}  ")).collect::<String>();
        writeln!(streams.stdout, "{}", text.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::Command;

    use super::*;

    fn shown(json: bool, show: impl Fn(&ArgMatches, &mut Streams<'_>)) -> String {
        let command = Command::new("x").arg(values::json_arg());
        let matches = command.get_matches_from(if json { vec!["x", "--json"] } else { vec!["x"] });
        let (mut out, mut err) = (Vec::new(), Vec::new());
        show(&matches, &mut Streams { stdin: &mut std::io::empty(), stdout: &mut out, stderr: &mut err });
        String::from_utf8(out).unwrap()
    }

    fn rows() -> Vec<Facts> {
        vec![
            Facts::default().with_text("name", "a").with("count", 1u64).with_time("end", None),
            Facts::default()
                .with_text("name", "longer")
                .with("count", 20u64)
                .with_time("end", Some(Timestamp::EPOCH)),
        ]
    }

    #[test]
    fn people_get_a_table_and_programs_the_same_facts() {
        assert_eq!(
            shown(false, |matches, streams| list(matches, streams, rows()).unwrap()),
            "NAME    COUNT  END\na       1      -\nlonger  20     1970-01-01T00:00:00Z\n"
        );
        let json = shown(true, |matches, streams| list(matches, streams, rows()).unwrap());
        let lines: Vec<serde_json::Value> =
            json.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        assert_eq!(lines[0]["end"], serde_json::Value::Null);
        assert_eq!(lines[1]["count"], 20);
        assert_eq!(shown(false, |matches, streams| list(matches, streams, Vec::new()).unwrap()), "");
    }
}
