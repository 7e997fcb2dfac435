use super::*;

fn read(pairs: &[(&str, &str)]) -> (RequestHead, Result<(), Reason>) {
    let single = [String::from("x-api-key")];
    RequestHead::read(
        &Pairs::write(pairs),
        StreamFacts { source_address: Some(String::from("10.1.2.3:4567")), ..StreamFacts::default() },
        SourceTrust::Peer,
        HeadLimits { header_bytes: 1024, single: &single },
    )
}

#[test]
fn a_head_is_read_once_with_its_duplicates() {
    let (head, verdict) = read(&[
        (":method", "POST"),
        (":path", "/predict?x=1"),
        (":authority", "Models.Example:8080"),
        ("x-tag", "a"),
        ("x-tag", "b"),
    ]);
    assert_eq!(verdict, Ok(()));
    assert_eq!((head.path(), head.query()), ("/predict", Some("x=1")));
    assert_eq!(head.host, "models.example");
    assert_eq!(head.headers.count("x-tag"), 2);
    assert_eq!(head.headers.text("x-tag"), None);
    assert_eq!(head.source, Some(IpAddr::from([10, 1, 2, 3])));
}

#[test]
fn a_duplicated_credential_header_is_refused() {
    let (_, verdict) = read(&[(":method", "GET"), (":path", "/"), ("x-api-key", "a"), ("x-api-key", "b")]);
    assert_eq!(verdict, Err(Reason::HeadInvalid));
}

#[test]
fn a_head_over_its_bound_is_refused() {
    let long = "x".repeat(1024);
    let (_, verdict) = read(&[(":method", "GET"), (":path", "/"), ("x-long", &long)]);
    assert_eq!(verdict, Err(Reason::HeadInvalid));
}

#[test]
fn a_value_that_is_no_text_is_a_value_all_the_same() {
    let mut block = Pairs::write(&[(":method", "GET"), (":path", "/"), ("x", "?")]);
    let position = block.iter().rposition(|byte| *byte == b'?').unwrap();
    block[position] = 0xff;
    let (head, verdict) = RequestHead::read(
        &block,
        StreamFacts::default(),
        SourceTrust::Peer,
        HeadLimits { header_bytes: 1024, single: &[] },
    );
    assert_eq!(verdict, Ok(()));
    assert_eq!(head.headers.text("x"), None);
    assert_eq!(head.headers.all("x").next(), Some(&[0xff][..]));
}

#[test]
fn a_head_without_method_is_refused() {
    assert_eq!(read(&[(":path", "/")]).1, Err(Reason::HeadInvalid));
}

#[test]
fn an_address_that_came_from_a_header_is_absent() {
    assert_eq!(source(Some("1.2.3.4:0"), SourceTrust::Peer), None);
    assert_eq!(source(Some("1.2.3.4:0"), SourceTrust::Xff), Some(IpAddr::from([1, 2, 3, 4])));
    assert_eq!(source(Some("[::ffff:1.2.3.4]:5"), SourceTrust::Peer), Some(IpAddr::from([1, 2, 3, 4])));
    assert_eq!(source(Some("pipe"), SourceTrust::Peer), None);
}

#[test]
fn hosts_lose_their_port_and_nothing_else() {
    assert_eq!(host_without_port("a.example:80"), "a.example");
    assert_eq!(host_without_port("[::1]:80"), "[::1]");
    assert_eq!(host_without_port("[::1]"), "[::1]");
    assert_eq!(host_without_port("a.example"), "a.example");
}

#[test]
fn a_host_that_is_spelt_otherwise_is_the_same_host_or_none() {
    let host = |authority: &str| read(&[(":method", "GET"), (":path", "/"), (":authority", authority)]);
    for same in ["a.example", "A.example.", "a.example.:80", "a.example:"] {
        let (head, verdict) = host(same);
        assert_eq!((head.host.as_str(), verdict), ("a.example", Ok(())), "{same}");
    }
    for other in
        ["u@a.example", "a.example,b", "a%2eexample", "a.example/b", "a.example\\b", "a.example?", "a\u{e9}"]
    {
        assert_eq!(host(other).1, Err(Reason::HeadInvalid), "{other}");
    }
}

#[test]
fn only_grpc_callers_are_grpc_callers() {
    for yes in ["application/grpc", "application/grpc+proto", "Application/gRPC; x=1"] {
        assert!(is_grpc(yes.as_bytes()), "{yes}");
    }
    for no in ["application/grpc-web", "application/json", "application/grpcx", ""] {
        assert!(!is_grpc(no.as_bytes()), "{no}");
    }
}

proptest::proptest! {
    #[test]
    fn no_block_of_bytes_traps(block in proptest::collection::vec(proptest::num::u8::ANY, 0..256)) {
        let _ = RequestHead::read(&block, StreamFacts::default(), SourceTrust::Peer, HeadLimits { header_bytes: 1024, single: &[] });
    }

    #[test]
    fn what_is_written_is_read(pairs in proptest::collection::vec((".{0,8}", ".{0,8}"), 0..8)) {
        let borrowed: Vec<(&str, &str)> = pairs.iter().map(|(n, v)| (n.as_str(), v.as_str())).collect();
        let block = Pairs::write(&borrowed);
        let read: Vec<_> = Pairs::read(&block).unwrap().collect();
        let expected: Vec<_> = borrowed.iter().map(|(n, v)| (n.as_bytes(), v.as_bytes())).collect();
        proptest::prop_assert_eq!(read, expected);
    }

    #[test]
    fn an_accepted_path_decodes_to_the_same_segments(path in "/[a-z.%;/\\\\2eEfF05cC]{0,12}") {
        if path::canonical(&path).is_ok() {
            let decoded: Vec<u8> = percent_encoding::percent_decode_str(&path).collect();
            let slashes = |bytes: &[u8]| bytes.iter().filter(|b| **b == b'/').count();
            proptest::prop_assert_eq!(slashes(&decoded), slashes(path.as_bytes()));
            proptest::prop_assert!(!decoded.contains(&b'\\') && !decoded.contains(&b';'));
        }
    }
}

#[test]
fn a_host_with_more_than_one_reading_is_refused() {
    for host in ["a.example,b.example", "root@a.example", "a.example/x", "a b", "a?b", "a#b", "a\\b"] {
        let (_, verdict) = read(&[(":method", "GET"), (":path", "/"), (":authority", host)]);
        assert_eq!(verdict, Err(Reason::HeadInvalid), "{host}");
    }
}
