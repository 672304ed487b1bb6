//! Imports version 9.0.0 of `twitcher:action`, which no host has.

wit_bindgen::generate!({
    inline: r#"
        package twitcher:action@9.0.0;

        interface context {
            path: func() -> string;
        }

        interface handler {
            on-change: func(data: list<u8>);
        }

        world action {
            import context;
            export handler;
        }
    "#,
});

struct Component;

impl exports::twitcher::action::handler::Guest for Component {
    fn on_change(_data: Vec<u8>) {
        println!("{}", twitcher::action::context::path());
    }
}

export!(Component);
