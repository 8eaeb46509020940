"""Reports for people and machines: one document model, one way of rendering it, and the documents themselves."""
