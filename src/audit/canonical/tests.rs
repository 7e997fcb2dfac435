use proptest::prelude::*;

use super::*;

#[test]
fn names_are_ordered_by_code_units_and_not_by_bytes() {
    // U+1F600 is D83D DE00 in UTF-16 and therefore before U+FB33 (RFC 8785 §3.2.3, example)
    let tree =
        Tree::parse("{\"\u{fb33}\":1,\"\u{1f600}\":2,\"\u{20ac}\":3,\"\\r\":4,\"1\":5}".as_bytes()).unwrap();
    assert_eq!(
        String::from_utf8(tree.canonical()).unwrap(),
        "{\"\\r\":4,\"1\":5,\"\u{20ac}\":3,\"\u{1f600}\":2,\"\u{fb33}\":1}"
    );
}

#[test]
fn what_an_event_cannot_hold_is_not_read() {
    for wrong in [
        "{\"a\":1.0}",
        "{\"a\":1e3}",
        "{\"a\":-0}",
        "{\"a\":null}",
        "{\"a\":9007199254740992}",
        "{\"a\":-9007199254740992}",
        "{\"a\":[1]}",
        "{\"a\":[[\"x\"]]}",
        "{\"a\":1,\"a\":1}",
        "{\"a\":1,\"\\u0061\":2}",
        "{\"o\":{\"x\":\"1\",\"x\":\"1\"}}",
        "{\"a\":\"\\ud800\"}",
        "{\"a\":1} {}",
        "{\"a\":1",
        "",
    ] {
        assert!(Tree::parse(wrong.as_bytes()).is_err(), "{wrong}");
    }
    assert!(Tree::parse(b"{\"a\":\"\xff\"}").is_err());
    assert!(Tree::parse("{\"a\":9007199254740991,\"b\":-9007199254740991}".as_bytes()).is_ok());
    let deep = "{\"a\":".repeat(100_000);
    assert!(Tree::parse(deep.as_bytes()).is_err());
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let mut writer = Canonical::default();
    writer.text("t", &"é".repeat(MAX_TEXT_BYTES));
    let text = String::from_utf8(writer.into_bytes()).unwrap();
    assert_eq!(text, format!("\"t\":\"{}…\"", "é".repeat(MAX_TEXT_BYTES / 2)));
    let mut writer = Canonical::default();
    writer.text("t", &"\u{1}".repeat(MAX_TEXT_BYTES));
    assert_eq!(writer.len(), "\"t\":\"…\"".len() + MAX_TEXT_BYTES / 6 * 6);
}

#[test]
fn a_member_is_put_in_its_place() {
    let mut tree = Tree::parse(b"{\"a\":1,\"c\":true}").unwrap();
    tree.insert("b", Tree::Text(String::from("x")));
    tree.insert("a", Tree::Integer(7));
    assert_eq!(tree.canonical(), b"{\"a\":7,\"b\":\"x\",\"c\":true}");
    assert_eq!(tree.remove("c"), Some(Tree::Bool(true)));
    assert_eq!(tree.canonical(), b"{\"a\":7,\"b\":\"x\"}");
}

fn trees() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Tree::Bool),
        (-9_007_199_254_740_991_i64..=9_007_199_254_740_991).prop_map(Tree::Integer),
        any::<String>().prop_map(Tree::Text),
        proptest::collection::vec(any::<String>(), 0..4).prop_map(Tree::List),
    ];
    let object = |value: BoxedStrategy<Tree>| {
        proptest::collection::btree_map(any::<String>(), value, 0..6).prop_map(|members| {
            let mut tree = Tree::Object(Vec::new());
            for (name, value) in members {
                tree.insert(&name, value);
            }
            tree
        })
    };
    object(leaf.prop_recursive(3, 24, 6, move |inner| object(inner.boxed())).boxed())
}

proptest! {
    #[test]
    fn our_bytes_are_the_librarys_bytes(tree in trees()) {
        let bytes = tree.canonical();
        let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        prop_assert_eq!(&serde_json_canonicalizer::to_vec(&value).unwrap(), &bytes);
        prop_assert_eq!(Tree::parse(&bytes).unwrap(), tree);
    }
}

#[test]
fn a_byte_that_needs_an_escape_is_found_wherever_it_stands() {
    for escaped in (0..0x20).chain([b'"', b'\\']) {
        for before in 0..20 {
            for after in 0..10 {
                let text = [
                    vec![b'x'; before],
                    vec![escaped],
                    vec![b'\xc3', b'\xa9', 0x7f, b'!'],
                    vec![b'x'; after],
                ];
                assert_eq!(plain_bytes(&text.concat()), before, "{escaped:#x} after {before} before {after}");
            }
        }
    }
    let plain: Vec<u8> = (0..=u8::MAX).filter(|byte| escaped_len(*byte) == 1).collect();
    assert_eq!(plain_bytes(&plain), plain.len());
}
