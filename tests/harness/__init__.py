"""What every black-box test needs: a RESP client that keeps types exactly, and servers started on free ports."""
