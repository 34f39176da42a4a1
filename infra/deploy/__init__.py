"""What a cluster is told: an image, manifests for KubeRay, a file for `ray up`, dashboards."""
