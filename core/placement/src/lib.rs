//! What the cluster agrees on, and what it should do next. See DESIGN.md beside this crate.
//!
//! [`MetaState`] is the meta group's state machine: members, and which nodes shall hold which group. [`plan`] proposes
//! the next change of it, [`membership_step`] the next change of one group's voters towards it, [`better_leader`] who should
//! lead a shard, and [`Forming`] decides how a node without a cluster comes to one. Pure; all are asked again after each
//! change.

mod apply;
mod command;
mod forming;
mod gateway;
mod leaders;
mod membership;
mod plan;
mod record;
mod settings;
mod state;
mod users;

pub use command::MetaCommand;
pub use forming::{Decision, Forming, FormingInput, JoinReply, Offer};
pub use gateway::{
    GATEWAY_BYTES_MAX, GATEWAY_KEPT_BYTES_MAX, GATEWAY_VERSIONS_MAX, GATEWAY_WORDS_BYTES_MAX, GatewaySecret,
    GatewayVersion,
};
pub use leaders::better_leader;
pub use membership::{Step, Wanted, is_settled, membership_step};
pub use plan::{DEAD_AFTER_MS, View, plan};
pub use record::{Member, NodeRecord, REPLICAS_MAX, ShardRecord, TEXT_BYTES_MAX};
pub use settings::{ClusterSettings, SETTING_NAME_BYTES_MAX, SETTING_VALUE_BYTES_MAX, SETTINGS_MAX};
pub use state::{MetaState, NODES_MAX, SHARDS_MAX};
pub use users::{USERS_BYTES_MAX, USERS_MAX};
