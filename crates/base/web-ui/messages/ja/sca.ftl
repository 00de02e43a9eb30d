# Texts of the sca surface. The other language has the same ids.
