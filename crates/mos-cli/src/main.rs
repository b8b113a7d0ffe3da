//! The one binary: parses arguments, calls the facade, prints.

mod arguments;
mod commands;
mod context;
mod logging;
mod output;
mod progress;
mod version;

use std::process::ExitCode;

use arguments::Arguments;
use output::Output;

fn main() -> ExitCode {
    // First of all: on a processor that lacks what the program was compiled for, anything else would crash.
    if let Err(message) = mos::check_cpu() {
        return Output::default().failure(&message);
    }
    let arguments = Arguments::read();
    // A server that nobody watches tells of itself.
    let is_service = matches!(arguments.command, arguments::Command::Serve(_));
    let output = Output { json: arguments.json };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return output.failure(&format!("cannot start: {error}")),
    };
    let traces = {
        let _within = runtime.enter();
        commands::traces(&arguments)
    };
    let (traces, sending) = match traces {
        Ok(traces) => traces,
        Err(error) => return output.failure(&output::describe(&error)),
    };
    logging::start(arguments.verbose.max(u8::from(is_service)), traces);
    let result = runtime.block_on(commands::run(arguments));
    // What is left goes to the collector over the runtime, so that it must be sent before that ends.
    drop(sending);
    // A model that is still computing an answer nobody waits for must not hold the exit up.
    runtime.shutdown_background();
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => output.failure(&output::describe(&error)),
    }
}
