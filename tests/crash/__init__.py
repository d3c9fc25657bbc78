"""skep killed under load: what it acknowledged must be there after the restart, and nothing that was never sent."""
