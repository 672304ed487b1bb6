//! Is an action, and imports an interface that the host does not have.

mod unknown {
    wit_bindgen::generate!({
        inline: r#"
            package acme:unknown@1.2.3;

            interface things {
                thing: func() -> string;
            }

            world guest {
                import things;
            }
        "#,
    });
}

guests::action!(|_| {
    println!("{}", unknown::acme::unknown::things::thing());
    Ok(())
});
