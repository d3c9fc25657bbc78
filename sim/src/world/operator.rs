//! Whoever runs the cluster.

use super::World;

impl World {
    pub(super) fn operate(&mut self) {}
}
