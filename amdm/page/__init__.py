"""A page in the browser to try the library with: `amdm page`. It needs the extra `page`."""
