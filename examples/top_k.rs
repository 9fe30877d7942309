//! The engine without Python: `cargo run --release --example top_k -- MODEL USER [K]`.

use std::path::Path;

use neuralcf::filter::Filter;
use neuralcf::{Call, Engine, Isa, Scale, ScanPrecision, choose_threads, format};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (path, user, k) = match &arguments[..] {
        [path, user] => (path, user.parse()?, 10),
        [path, user, k] => (path, user.parse()?, k.parse()?),
        _ => return Err("usage: top_k MODEL USER [K]".into()),
    };
    let call = Call { threads: choose_threads(None)?, ..Call::ALONE };
    let opened = format::open(Path::new(path), &mut || Ok(()))?;
    let engine = Engine::new(opened.model, opened.seen, Isa::choose(None)?, ScanPrecision::Auto, call)?;
    let users = engine.user(user, 1)?;
    let top = engine.top_k(&users, k, &Filter::default(), Scale::Probability, call)?;
    println!("{} of {} items, {} threads, {}", engine.kind().as_str(), engine.num_items(), call.threads, engine.isa());
    for (id, score) in top.ids.iter().zip(&top.scores).filter(|&(&id, _)| id >= 0) {
        println!("{id:8}  {score:.6}");
    }
    Ok(())
}
