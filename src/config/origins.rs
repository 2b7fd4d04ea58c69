//! Origins whose pages may read answers (CORS), and whose pages send the cookie with a token.

use url::Url;

use super::ErrorCollector;
use super::sources::Shown;

const ORIGINS: &str = "http.cors_origins";
/// Every origin, for requests without credentials.
const ANY: &str = "*";
const EXPECTED: &str =
    "is no origin; expected: https://app.example, http://localhost:3000 and the like, or \"*\" alone";

/// The checked origins. A browser compares them with its own byte by byte, so each has to be
/// written as it sends them.
pub(super) fn origins(texts: &[String], complaints: &mut ErrorCollector) -> Vec<String> {
    if texts.len() > 1 && texts.iter().any(|text| text == ANY) {
        complaints
            .add(ORIGINS, "\"*\" is every origin; write it alone, or leave it out and list the origins");
    }
    for text in texts.iter().filter(|text| *text != ANY) {
        if let Some(problem) = problem(text) {
            complaints.add(ORIGINS, format_args!("{} {problem}", Shown(text)));
        }
    }
    texts.to_vec()
}

/// The problem of an origin.
fn problem(text: &str) -> Option<String> {
    if text.contains('*') {
        return Some("is a pattern, which no browser sends; list each origin".to_owned());
    }
    let url = Url::parse(text).ok().filter(|url| ["http", "https"].contains(&url.scheme()));
    let Some(url) = url else { return Some(EXPECTED.to_owned()) };
    let sent = url.origin().ascii_serialization();
    (sent != text).then(|| format!("is not what a browser sends; write {}", Shown(&sent)))
}

/// Whether pages of other sites send the cookie.
pub(super) fn cookie_for_other_sites(text: &str, complaints: &mut ErrorCollector) -> bool {
    if !["strict", "none"].contains(&text) {
        let problem = format_args!("{} is unknown; allowed are strict and none", Shown(text));
        complaints.add("http.cookie_same_site", problem);
    }
    text == "none"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_origin_is_taken_as_browsers_send_it() {
        for origin in [
            "https://app.example",
            "http://localhost:3000",
            "http://127.0.0.1:8080",
            "http://[::1]:8080",
            "https://xn--bcher-kva.example",
        ] {
            assert_eq!(problem(origin), None, "{origin}");
        }
    }

    #[test]
    fn any_other_spelling_of_an_origin_is_refused_with_the_right_one() {
        for (text, right) in [
            ("https://app.example/", "https://app.example"),
            ("https://app.example/shop?x#y", "https://app.example"),
            ("HTTPS://App.Example", "https://app.example"),
            ("https://app.example:443", "https://app.example"),
            ("http://app.example:80", "http://app.example"),
            ("https://bücher.example", "https://xn--bcher-kva.example"),
            ("https://name:password@app.example", "https://app.example"),
        ] {
            let expected = format!("is not what a browser sends; write {right:?}");
            assert_eq!(problem(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_origin_is_refused_with_an_example() {
        for text in
            ["", "null", "app.example", "localhost:3000", "ftp://app.example", "//app.example", "https://"]
        {
            assert_eq!(problem(text).as_deref(), Some(EXPECTED), "{text}");
        }
        for text in ["https://*.example", "https://*", "**"] {
            assert!(problem(text).is_some_and(|problem| problem.starts_with("is a pattern")), "{text}");
        }
    }

    #[test]
    fn every_origin_is_not_listed_beside_others() {
        let complaints = |texts: &[&str]| {
            let texts: Vec<_> = texts.iter().map(|text| (*text).to_owned()).collect();
            let mut complaints = ErrorCollector::default();
            origins(&texts, &mut complaints);
            complaints.lines
        };
        assert_eq!(complaints(&["*"]), Vec::<String>::new());
        let [complaint] = complaints(&["https://app.example", "*"]).try_into().unwrap();
        assert!(complaint.ends_with("write it alone, or leave it out and list the origins"), "{complaint}");
    }
}
