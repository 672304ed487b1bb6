//! Runs the command that `name` is, with the lines of `args` as its arguments and the data as its input.

guests::action!(|data| {
    let args: Vec<String> = setting("args").lines().map(str::to_owned).collect();
    let output = commands::run(&setting("name"), &args, &data);
    if let Ok(output) = &output {
        println!(
            "code {:?}, signal {:?}, truncated {}",
            output.code, output.signal, output.truncated
        );
        println!("stdout: {}", String::from_utf8_lossy(&output.stdout));
        println!("stderr: {}", String::from_utf8_lossy(&output.stderr));
    }
    refused(output)
});
