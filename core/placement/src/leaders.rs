//! Which replica should lead a shard: leaders do most of the work, so they are spread over the nodes like the copies.
//!
//! INV-PLACE-10: each transfer lowers the sum over nodes of the square of shards led, or takes leadership from a draining
//! node, so for fixed views they end.

use std::collections::BTreeMap;

use skep_base::{GroupId, NodeId};

use crate::plan::View;
use crate::state::MetaState;

/// The replica that should lead `group` instead of this node, which does; `None` if it should go on. `leaders` are those
/// of all groups as far as this node knows them. To be asked for one group at a time, and not before it was heard what came
/// of the last transfer. The new leader must have caught up, which the group knows.
///
/// A group whose replicas are changing is left in peace, and the meta group's leader goes only from a draining node.
///
/// Cost: O(groups + replicas).
pub fn better_leader(
    me: NodeId,
    group: GroupId,
    state: &MetaState,
    view: &View,
    leaders: &BTreeMap<GroupId, NodeId>,
) -> Option<NodeId> {
    let record = state.group(group).filter(|record| record.settled)?;
    let is_draining = |node: &NodeId| state.nodes.get(node).is_none_or(|member| member.draining);
    let led_by = |node: NodeId| {
        leaders.iter().filter(|(led, leader)| **led != GroupId::META && **leader == node).count()
    };
    let fit = record
        .replicas
        .iter()
        .copied()
        .filter(|node| *node != me && !is_draining(node) && !view.down.contains_key(node));
    let (led, heir) = fit.map(|node| (led_by(node), node)).min()?;
    let is_better = group != GroupId::META && led_by(me) > led + 1;
    (is_draining(&me) || is_better).then_some(heir)
}
