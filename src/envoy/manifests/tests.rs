use super::*;

#[test]
fn a_module_is_an_image_a_file_or_on_the_web() {
    for (text, url) in [
        (
            "oci://registry.example/mlgate/filter:1",
            ModuleUrl::Image("registry.example/mlgate/filter:1".to_owned()),
        ),
        (
            "https://files.example/mlgate.wasm",
            ModuleUrl::Http("https://files.example/mlgate.wasm".to_owned()),
        ),
        ("file:///opt/mlgate.wasm", ModuleUrl::File("/opt/mlgate.wasm".to_owned())),
    ] {
        assert_eq!(text.parse(), Ok(url));
    }
    for bad in
        ["", "registry.example/mlgate", "oci://", "file://mlgate.wasm", "ftp://a/b", "https://a b", "oci://ä"]
    {
        assert!(bad.parse::<ModuleUrl>().is_err(), "{bad}");
    }
    for bad in ["", "0", &"g".repeat(64), &"A".repeat(64), &"0".repeat(65)] {
        assert!(bad.parse::<Checksum>().is_err(), "{bad}");
    }
    assert!("0".repeat(64).parse::<Checksum>().is_ok());
}
