"""The demo's world in a closed loop: any policies and releases, in process or through a real service over HTTP."""
