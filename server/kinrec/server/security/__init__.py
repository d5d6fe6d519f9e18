"""Who may call, and over what: TLS, tokens, and the files of both, which change while the server runs."""
