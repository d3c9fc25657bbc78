//! Scripts against a whole node: what goes in, and every byte that comes out.

mod client;
mod connection;
mod memory;
mod random;
mod server;

use super::Route;
use super::Routes;

#[test]
fn every_command_about_the_node_has_somebody_who_runs_it() {
    use skep_command::Group;
    let routes = Routes::new();
    let is_ours = |group| matches!(group, Group::Connection | Group::Server | Group::Cluster);
    let nobody: Vec<&str> = skep_command::commands()
        .flat_map(|c| std::iter::once(c).chain(c.subcommands()))
        .filter(|c| is_ours(c.group) && !c.is_container() && matches!(routes.of(c), Route::None))
        .map(|c| c.name)
        .collect();
    assert_eq!(nobody, Vec::<&str>::new());
}
