use super::*;

fn json(text: &str) -> Tree {
    Tree::from_json(text.as_bytes()).unwrap()
}

fn first_fault(result: Result<Tree, Faults>) -> Fault {
    result.unwrap_err().into_vec().remove(0)
}

#[test]
fn members_written_twice_are_both_kept() {
    let tree = json(r#"{"a": 1, "a": 2}"#);
    let Kind::Object(members) = &tree.root().kind else { panic!() };
    assert_eq!(
        members.iter().map(|m| m.node.kind.clone()).collect::<Vec<_>>(),
        [Kind::Integer(1), Kind::Integer(2)]
    );
}

#[test]
fn json_has_lines() {
    let tree = json("{\n\"a\": [\n  1,\n  {\"b\":\n 5}\n],\n\"c/d\": null}");
    for (pointer, line) in
        [("", 1), ("/a", 2), ("/a/0", 3), ("/a/1", 4), ("/a/1/b", 4), ("/c~1d", 7), ("/a/1/x/y", 4)]
    {
        assert_eq!(tree.line_of(pointer), Some(line), "{pointer}");
    }
}

#[test]
fn a_json_syntax_fault_has_a_line() {
    let fault = first_fault(Tree::from_json(b"{\n\n\"a\": ]"));
    assert_eq!(fault.line, Some(3));
    assert!(!fault.what.contains(" at line "), "{}", fault.what);
    assert!(Tree::from_json(b"{} {}").is_err());
    assert!(Tree::from_json(b"").is_err());
    assert!(Tree::from_json(b"\"\xff\"").is_err());
}

#[test]
fn a_whole_double_is_a_whole_number() {
    assert_eq!(
        json("[1.0, 1e3, -0.0, 9007199254740991]").to_json().to_string(),
        "[1,1000,0,9007199254740991]"
    );
    assert!(matches!(json("9007199254740992").root().kind, Kind::Fraction(_)));
    assert!(matches!(json("1e300").root().kind, Kind::Fraction(_)));
    assert!(matches!(json("0.5").root().kind, Kind::Fraction(_)));
}

#[test]
fn what_is_too_deep_or_too_large_is_refused() {
    let deep = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
    assert!(Tree::from_json(deep(MAX_DEPTH).as_bytes()).is_ok());
    let fault = first_fault(Tree::from_json(deep(MAX_DEPTH + 1).as_bytes()));
    assert!(fault.what.contains("nested more than"), "{}", fault.what);
    assert!(Tree::from_json(&vec![b' '; MAX_BYTES + 1]).is_err());
    let wide = format!("[{}0]", "0,".repeat(MAX_NODES));
    assert!(first_fault(Tree::from_json(wide.as_bytes())).what.contains("more than 1000000 values"));
}

#[test]
fn the_revision_does_not_depend_on_layout() {
    let one = json(r#"{"b": [1.0, "x"], "a": true}"#);
    let two = json("{\"a\":true,\n\n\"b\":[1,\"\\u0078\"]}");
    assert_eq!(one.canonical().unwrap(), br#"{"a":true,"b":[1,"x"]}"#);
    assert_eq!(one.policy_revision(), two.policy_revision());
    assert_eq!(
        json("{}").policy_revision().unwrap(),
        // printf '{}' | sha256sum
        "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
    );
}

#[cfg(feature = "cases")]
mod yaml {
    use super::*;

    fn read(text: &str) -> Tree {
        Tree::from_yaml(text.as_bytes()).unwrap()
    }

    #[test]
    fn plain_scalars_follow_the_core_schema() {
        for (text, kind) in [
            ("off", Kind::Text("off".into())),
            ("no", Kind::Text("no".into())),
            ("Yes", Kind::Text("Yes".into())),
            ("1_000", Kind::Text("1_000".into())),
            ("1:30", Kind::Text("1:30".into())),
            ("2026-01-01", Kind::Text("2026-01-01".into())),
            ("0b1", Kind::Text("0b1".into())),
            ("-", Kind::List(vec![Node { line: 1, kind: Kind::Null }])),
            ("'1'", Kind::Text("1".into())),
            ("1e3", Kind::Integer(1000)),
            ("0o17", Kind::Integer(15)),
            ("0x1F", Kind::Integer(31)),
            ("007", Kind::Integer(7)),
            ("+7", Kind::Integer(7)),
            (".5", Kind::Fraction(0.5)),
            ("9007199254740993", Kind::Fraction(9_007_199_254_740_992.0)),
            ("true", Kind::Bool(true)),
            ("FALSE", Kind::Bool(false)),
            ("~", Kind::Null),
            ("null", Kind::Null),
        ] {
            assert_eq!(read(text).root().kind, kind, "{text}");
        }
        for wrong in [".inf", "-.INF", ".NaN", "1e999"] {
            assert!(Tree::from_yaml(wrong.as_bytes()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn lines_are_those_of_the_names() {
        let tree = read("# first\na:\n  - x\n  - b: 1\n    c:\n      d: 2\n");
        for (pointer, line) in
            [("/a", 2), ("/a/0", 3), ("/a/1", 4), ("/a/1/b", 4), ("/a/1/c", 5), ("/a/1/c/d", 6)]
        {
            assert_eq!(tree.line_of(pointer), Some(line), "{pointer}");
        }
    }

    #[test]
    fn what_hides_from_a_reader_is_refused_with_its_line() {
        for (text, line, what) in [
            ("a: 1\nb: &x 2", 2, "an anchor"),
            ("a: 1\nb: *x", 2, ""),
            ("a: &x 1\nb: *x", 1, "an anchor"),
            ("a:\n  !!str 1", 2, "a tag"),
            ("a:\n  <<: {}", 2, "a merge key"),
            ("a: 1\n---\nb: 1", 2, "a second document"),
            ("{[1]: 2}", 1, "a name that is not a text"),
            ("", 1, "empty"),
            ("# nothing\n", 1, "empty"),
            ("a: [1\nb: 2", 2, "not a YAML document"),
        ] {
            let fault = first_fault(Tree::from_yaml(text.as_bytes()));
            assert_eq!(fault.line, Some(line), "{text}: {fault}");
            assert!(fault.what.starts_with(what), "{text}: {fault}");
        }
        assert_eq!(first_fault(Tree::from_yaml(b"a: 1\nb: \xff")).line, Some(2));
        assert!(Tree::from_yaml("[".repeat(1000).as_bytes()).is_err());
    }

    #[test]
    fn yaml_and_json_give_the_same_value() {
        let text = r#"{"a": [1, true, null, "x\ny"], "b": {"c": "off"}}"#;
        assert_eq!(read(text), json(text));
    }
}
