"""What an operator sees of the calls: metrics, logs, traces. The servicer does not know who watches."""
