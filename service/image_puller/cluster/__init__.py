"""The Kubernetes API: one client, and how the DaemonSet is read and changed through it."""
