package routes

// sqlFields are those of the doors for drivers of databases.
func sqlFields() []Field {
	return []Field{
		{Section: "sql", Key: "name", Type: "[a-z0-9-]", Default: "required", Doc: "The label in logs and metrics; no route has the same."},
		{Section: "sql", Key: "kind", Type: "word", Default: "mssql", Doc: "What is spoken: mssql is TDS, of Azure SQL, Managed Instance, Synapse and Fabric.", Values: []string{"mssql"}},
		{Section: "sql", Key: "listen", Type: "address", Default: "required", Doc: "Where drivers connect to: host:port or unix:/path."},
		{Section: "sql", Key: "plain", Type: "bool", Default: "false", Doc: "An address off loopback without TLS is meant; and clients that cannot encrypt may show a key all the same."},
		{Section: "sql", Key: "server", Type: "host", Doc: "The server, with a port if it is not 1433. Exactly one of server and servers."},
		{Section: "sql", Key: "servers", Type: "list of hosts", Doc: "Several servers: the client's own name of the server chooses, and no other is reached."},
		{Section: "sql", Key: "dial", Type: "host:port", Default: "the server itself", Doc: "Where to dial instead, such as a private endpoint or a tunnel. The certificate is checked for the server's name."},
		{Section: "sql", Key: "upstream_tls", Type: "mandatory, strict", Default: "mandatory", Doc: "Towards the server: TLS inside TDS 7.4, or TDS 8.0, whose first byte is TLS. There is no connection without."},
		{Section: "sql", Key: "tls", Type: "mapping", Doc: "Whom to trust for the servers.", As: "sql.tls"},
		{Section: "sql", Key: "redirect_suffixes", Type: "list of suffixes", Default: "the server's own domain, and those of Azure SQL, Synapse and Fabric", Doc: "Where a server may redirect the login to, with the token: all below a suffix that begins with a dot, or an exact name. The list takes the default's place."},
		{Section: "sql", Key: "credential", Type: "name", Default: "default, else the only one", Doc: "Whose token."},
		{Section: "sql", Key: "scope", Type: "text", Default: "Azure SQL's in the credential's cloud, such as `https://database.windows.net//.default`", Doc: "Sent as it stands: the audience ends in a slash. Needed where the credential is not of Entra."},
		{Section: "sql", Key: "callers", Type: "list of names", Default: "any named caller", Doc: "Who may log in: the user is the caller's name and the password its API key, or the peer's uid is its own."},
		{Section: "sql", Key: "database", Type: "text", Default: "the login's own", Doc: "The database when the client names none."},
		{Section: "sql", Key: "force_database", Type: "bool", Default: "false", Doc: "The database, whatever the client names."},
		{Section: "sql", Key: "read_only", Type: "bool", Default: "false", Doc: "ApplicationIntent=ReadOnly is added to every login. It asks for a read-only replica, and is no bar to writing: rights in the database are."},
		{Section: "sql", Key: "app_name_suffix", Type: "text", Doc: "Added to the name of the app, for the server's own views and audit; at most 64 characters."},
		{Section: "sql", Key: "client_tls", Type: "off, optional, required", Default: "optional", Doc: "What clients are told of encryption. With callers, optional asks whoever can encrypt to do so."},
		{Section: "sql", Key: "certificate_file", Type: "path", Default: "one of the interception CA, else one that the process made for itself", Doc: "PEM: the certificate that clients are shown, with its chain, and with the key unless key_file names it. Watched."},
		{Section: "sql", Key: "key_file", Type: "path", Default: "certificate_file", Doc: "PEM: its key. Watched."},
		{Section: "sql", Key: "max_connections", Type: "number", Default: "500", Doc: "Sessions at once; further ones are refused with error 10928."},
		{Section: "sql", Key: "login_timeout", Type: "duration", Default: "30s", Doc: "How long a login may take, redirects and all: 1s to 5m."},
		{Section: "sql", Key: "relogin", Type: "mapping", Doc: "Logging in anew when a pool resets a session whose token is near its end."},
		{Section: "sql", Key: "max_session_age", Type: "duration or off", Default: "off", Doc: "Sessions that are older are ended when they have been idle for a minute: 1m to 720h. An open transaction ends with them."},
		{Section: "sql.tls", Key: "ca_file", Type: "path", Default: "the system's roots", Doc: "PEM bundle that alone is trusted."},
		{Section: "relogin", Key: "skew", Type: "duration or off", Default: "5m", Doc: "How long before the token's end, up to 1h; off turns it off."},
	}
}
