use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use tkcore::Caveat;

use super::{Exit, Failure, Paint, Streams, json_flag};

pub(super) fn describe() -> Command {
    Command::new("caveat")
        .about("Say in words what a caveat means, or where it is wrong")
        .arg(Arg::new("text").value_name("TEXT").required(true).help("One caveat, quoted for the shell"))
        .arg(json_flag())
        .after_help(
            "Exit code 0: it can be read; 2: it cannot, and a caret shows where.\n\n\
             Example:\n  tkverify caveat 'app? allows 17:read|write else read'",
        )
}

pub(super) fn run(matches: &ArgMatches, streams: &mut Streams<'_>) -> Result<Exit, Failure> {
    let text = matches.get_one::<String>("text").map_or("", String::as_str);
    let as_json = matches.get_flag("json");
    match Caveat::parse(text) {
        Ok(caveat) if as_json => {
            let value = json!({
                "valid": true,
                "name": caveat.name(),
                "optional": caveat.is_optional(),
                "operator": caveat.operator().as_str(),
                "value": caveat.value(),
                "else": caveat.otherwise(),
                "meaning": caveat.meaning().to_string(),
            });
            writeln!(streams.stdout, "{value}")?;
            Ok(Exit::Ok)
        }
        Ok(caveat) => {
            writeln!(streams.stdout, "{}", caveat.meaning())?;
            Ok(Exit::Ok)
        }
        Err(error) if as_json => {
            let value = json!({
                "valid": false,
                "column": error.column(text).saturating_add(1),
                "error": error.fault().to_string(),
            });
            writeln!(streams.stdout, "{value}")?;
            Ok(Exit::Usage)
        }
        Err(error) => {
            let (line, before) = shown(text, error.column(text));
            writeln!(streams.stdout, "{line}")?;
            let caret = streams.colours.paint(Paint::Bad, "^");
            writeln!(streams.stdout, "{:before$}{caret} {}", "", error.fault())?;
            Ok(Exit::Usage)
        }
    }
}

/// The caveat as a terminal can show it, and how many characters of that stand before `column`.
fn shown(text: &str, column: usize) -> (String, usize) {
    let mut line = String::new();
    let mut before = 0usize;
    for (at, c) in text.chars().enumerate() {
        if at == column {
            before = line.chars().count();
        }
        // Escaped as in `inspect`: nothing moves what stands beside it.
        if c.is_control() || super::inspect::is_direction(c) {
            line.extend(c.escape_unicode());
        } else {
            line.push(c);
        }
    }
    if column >= text.chars().count() {
        before = line.chars().count();
    }
    (line, before)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_caret_stands_under_what_is_shown() {
        assert_eq!(shown("org = 007", 6), ("org = 007".to_owned(), 6));
        assert_eq!(shown("ö = 007", 4), ("ö = 007".to_owned(), 4));
        assert_eq!(shown("x = \u{202e}b c", 6), ("x = \\u{202e}b c".to_owned(), 13));
        assert_eq!(shown("x =", 3), ("x =".to_owned(), 3));
    }
}
