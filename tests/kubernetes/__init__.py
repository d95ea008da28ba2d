"""The Kubernetes folder, rendered by kustomize and validated: `just test-kubernetes`."""
