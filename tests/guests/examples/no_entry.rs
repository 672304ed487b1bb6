//! A component that exports neither of the two entries.

wit_bindgen::generate!({
    inline: r#"
        package acme:library@1.0.0;

        world guest {
            export add: func(a: u32, b: u32) -> u32;
        }
    "#,
});

struct Component;

impl Guest for Component {
    fn add(a: u32, b: u32) -> u32 {
        a + b
    }
}

export!(Component);
