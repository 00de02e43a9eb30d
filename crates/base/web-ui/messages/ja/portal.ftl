# Texts of the portal surface. The other language has the same ids.
