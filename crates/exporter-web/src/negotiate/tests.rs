//! Tables of what clients send, worked out after RFC 9110.

use hyper::header::HeaderValue;

use super::*;

fn headers(name: &HeaderName, lines: &[&str]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for line in lines {
        let value = HeaderValue::from_bytes(line.as_bytes()).unwrap();
        headers.append(name.clone(), value);
    }
    headers
}

#[test]
fn scrapers_and_browsers_get_the_format_they_ask_for() {
    use Media::{OpenMetrics, OpenMetrics001, Text};
    for (accept, expected) in [
        // Prometheus 2.42, 2.54, 3.5 (twice: with and without protobuf), VictoriaMetrics.
        (
            "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1",
            OpenMetrics,
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
            OpenMetrics,
        ),
        (
            "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            OpenMetrics,
        ),
        (
            "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited;q=0.6,application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=0.0.4;q=0.2,*/*;q=0.1",
            OpenMetrics,
        ),
        ("text/plain;version=0.0.4;q=1,*/*;q=0.1", Text),
        // Chromium.
        (
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8,application/signed-exchange;v=b3;q=0.7",
            Text,
        ),
        ("*/*", Text),
        ("", Text),
        (" , ,", Text),
        // Versions.
        ("application/openmetrics-text", OpenMetrics),
        ("application/openmetrics-text;version=0.0.1", OpenMetrics001),
        (
            "application/openmetrics-text; version=\"0.0.1\"",
            OpenMetrics001,
        ),
        (
            "application/openmetrics-text; version=\"0\\.0.1\"",
            OpenMetrics001,
        ),
        (
            "application/openmetrics-text;version=1.0.0;q=0.5,application/openmetrics-text;version=0.0.1",
            OpenMetrics001,
        ),
        (
            "application/openmetrics-text;version=2.0.0,text/plain;q=0.1",
            Text,
        ),
        ("text/plain;version=1.0.0;escaping=underscores", Text),
        (
            "text/plain;version=1.0.0;q=0.9,application/openmetrics-text;q=0.8",
            Text,
        ),
        (
            "text/plain;version=0.0.5,application/openmetrics-text;q=0.1",
            OpenMetrics,
        ),
        (
            "text/plain;charset=utf-8,application/openmetrics-text;q=0.1",
            Text,
        ),
        // Ranges.
        ("application/*", OpenMetrics),
        ("text/*", Text),
        ("text/*;q=0.1,application/*;q=0.2", OpenMetrics),
        ("application/*;q=0.1,*/*;q=0.2", Text),
        ("*/plain", Text),
        // The closest range decides.
        ("application/openmetrics-text;q=0,*/*", Text),
        ("text/plain;q=0,*/*", OpenMetrics),
        ("text/plain;q=0.1,*/*;q=0.5", OpenMetrics),
        (
            "application/openmetrics-text;version=1.0.0;q=0,application/openmetrics-text",
            OpenMetrics001,
        ),
        (
            "application/*;q=1,application/openmetrics-text;q=0.2,text/plain;q=0.3",
            Text,
        ),
        // Among equals, what is named; then what is named first.
        ("*/*,application/openmetrics-text", OpenMetrics),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4",
            OpenMetrics,
        ),
        (
            "text/plain;version=0.0.4,application/openmetrics-text;version=1.0.0",
            Text,
        ),
        // Case and space.
        (
            "Application/OpenMetrics-Text ; Version=1.0.0 ; Q=0.5 , TEXT/PLAIN;q=0.4",
            OpenMetrics,
        ),
        ("\tapplication/openmetrics-text\t;\tq=1.000", OpenMetrics),
        // Nothing that there is: better something than nothing.
        ("application/json", Text),
        ("application/vnd.google.protobuf", Text),
        ("*/*;q=0", Text),
        ("text/plain;q=0", Text),
        ("text/plain;q=0,application/openmetrics-text;q=0.000", Text),
        // Weights that are none: the part is ignored.
        ("application/openmetrics-text;q=2,text/plain;q=0.1", Text),
        ("application/openmetrics-text;q=1.001", Text),
        ("application/openmetrics-text;q=0.1234", Text),
        ("application/openmetrics-text;q=-1", Text),
        ("application/openmetrics-text;q=+1", Text),
        ("application/openmetrics-text;q=", Text),
        ("application/openmetrics-text;q", Text),
        ("application/openmetrics-text;q=.5", Text),
        ("application/openmetrics-text;q=1e0", Text),
        ("application/openmetrics-text;q=a,text/plain;q=0.001", Text),
        ("application/openmetrics-text;q=0.,text/plain;q=0", Text),
        ("application/openmetrics-text;q=1.", OpenMetrics),
        ("openmetrics-text,;;,/,text", Text),
        // Separators inside of quotes.
        (
            "text/html;x=\"a,b;q=0,\\\",\",application/openmetrics-text;q=0.5",
            OpenMetrics,
        ),
        ("text/html;x=\"application/openmetrics-text", Text),
    ] {
        assert_eq!(media(&headers(&ACCEPT, &[accept])), expected, "{accept}");
    }
    assert_eq!(media(&HeaderMap::new()), Text);
    let lines = [
        "text/plain;q=0.5",
        "text/html\u{e9}",
        "application/openmetrics-text;q=0.6",
    ];
    assert_eq!(media(&headers(&ACCEPT, &lines)), OpenMetrics);
}

#[test]
fn the_coding_with_the_highest_weight_and_the_page_as_it_is_otherwise() {
    let (plain, gzip, zstd) = (Ok(None), Ok(Some(Coding::Gzip)), Ok(Some(Coding::Zstd)));
    for (accept, expected) in [
        ("gzip", &gzip),
        ("zstd", &zstd),
        ("identity", &plain),
        ("", &plain),
        ("GZip", &gzip),
        ("x-gzip", &gzip),
        // curl, Go, Chromium.
        ("deflate, gzip, br, zstd", &gzip),
        ("gzip, deflate, br, zstd", &gzip),
        ("deflate, br", &plain),
        ("*", &gzip),
        ("*;q=0.5", &gzip),
        ("gzip;q=0.5, zstd;q=0.6", &zstd),
        ("gzip;q=0.5, zstd", &zstd),
        ("zstd, gzip", &gzip),
        ("gzip;q=0.001", &gzip),
        ("gzip;q=0", &plain),
        ("gzip;q=0, *", &zstd),
        ("gzip;q=0, zstd;q=0, *", &plain),
        ("gzip;q=0.8, identity", &plain),
        ("gzip;q=0.8, identity;q=0.8", &gzip),
        ("gzip;q=0.5, *;q=1", &zstd),
        ("gzip, *;q=0", &gzip),
        ("identity;q=0.5, *;q=0", &plain),
        ("identity;q=0, gzip;q=0.1", &gzip),
        ("gzip;q=2", &plain),
        ("gzip;q=0.5;x, zstd;q=oops", &gzip),
        // It must be coded and names no coding that there is: any not refused.
        ("identity;q=0", &gzip),
        ("identity;q=0, br", &gzip),
        ("identity;q=0, gzip;q=0", &zstd),
        ("identity;q=0, gzip;q=0, zstd;q=0", &Err(NotAcceptable)),
        ("identity;q=0, *;q=0", &Err(NotAcceptable)),
        ("*;q=0", &Err(NotAcceptable)),
        ("br, *;q=0.000", &Err(NotAcceptable)),
    ] {
        assert_eq!(
            &coding(&headers(&ACCEPT_ENCODING, &[accept])),
            expected,
            "{accept}"
        );
    }
    assert_eq!(coding(&HeaderMap::new()), plain);
    let lines = ["br", "gzip;q=0.1", "zstd;q=0.2"];
    assert_eq!(coding(&headers(&ACCEPT_ENCODING, &lines)), zstd);
}
