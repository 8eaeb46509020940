"""The weekly digest: what customers did, said and took, what changed, and what the service caused."""
