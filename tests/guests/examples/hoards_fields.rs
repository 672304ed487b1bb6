//! Takes host memory instead of its own: header fields of requests, each as large as it may be, that it never drops.

use wasip2::http::types::Fields;

guests::action!(|_| {
    let value = vec![b'x'; 100_000];
    loop {
        let fields = Fields::new();
        fields
            .append("name", &value)
            .map_err(|error| Failure::Permanent(format!("{error:?}")))?;
        std::mem::forget(fields);
    }
});
