//! Real messages between the replicas of a group, of many kinds.

use bytes::Bytes;
use skep_base::{GroupId, Millis, NodeId};
use skep_consensus::{Group, GroupConfig, Input, Message, Output, Role};
use skep_log::{GroupLog, Membership};

/// What three replicas said while they elected a leader and wrote a little.
pub fn raft_messages() -> Vec<Message> {
    let nodes: Vec<NodeId> = (1..=3).map(NodeId).collect();
    let mut groups: Vec<Group> = nodes
        .iter()
        .map(|node| {
            let membership = Membership { voters: nodes.clone(), ..Membership::default() };
            let config = GroupConfig::new(GroupId(1), *node, 1, node.0);
            Group::new(config, GroupLog { membership, ..GroupLog::default() })
        })
        .collect();
    let (mut said, mut leader) = (Vec::new(), None);
    for ms in (1_000..4_000).step_by(5) {
        let mut inbox: Vec<(usize, Input)> = (0..3).map(|node| (node, Input::Tick)).collect();
        if let Some(leader) = leader {
            let mut out = Vec::new();
            let group: &mut Group = &mut groups[leader];
            let _ = group.propose([Bytes::from(vec![ms as u8; ms % 700])], &mut out);
            carry_out(leader, out, &mut inbox, &mut said, &mut None);
        }
        while let Some((node, input)) = inbox.pop() {
            let mut out = Vec::new();
            groups[node].handle(Millis(ms as u64), input, &mut out);
            carry_out(node, out, &mut inbox, &mut said, &mut leader);
        }
    }
    assert!(leader.is_some() && said.len() > 100, "the replicas said {} messages", said.len());
    said
}

fn carry_out(
    node: usize,
    out: Vec<Output>,
    inbox: &mut Vec<(usize, Input)>,
    said: &mut Vec<Message>,
    leader: &mut Option<usize>,
) {
    let mut send = |to: NodeId, message: Message, inbox: &mut Vec<(usize, Input)>| {
        said.push(message.clone());
        inbox.insert(0, (to.0 as usize - 1, Input::Receive(message)));
    };
    for output in out {
        match output {
            Output::Send { to, message } => send(to, message, inbox),
            Output::Persist { ticket, then_send, .. } => {
                then_send.into_iter().for_each(|(to, message)| send(to, message, inbox));
                inbox.push((node, Input::Persisted(ticket)));
            }
            Output::RoleChanged { role: Role::Leader, .. } => *leader = Some(node),
            _ => {}
        }
    }
}
