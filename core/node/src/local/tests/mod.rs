//! Scripts against a whole node: what goes in, and every byte that comes out.

mod acl;
mod client;
mod compatibility;
mod connection;
mod memory;
mod pubsub;
mod random;
mod server;
mod settings;
mod slow;

use super::Route;
use super::Routes;

#[test]
fn every_command_has_somebody_who_runs_it() {
    let routes = Routes::new();
    let nobody: Vec<&str> = skep_command::commands()
        .flat_map(|c| std::iter::once(c).chain(c.subcommands()))
        .filter(|c| !c.is_container() && matches!(routes.of(c), Route::None))
        .map(|c| c.name)
        .collect();
    assert_eq!(nobody, Vec::<&str>::new());
}
