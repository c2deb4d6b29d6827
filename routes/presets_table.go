package routes

// This file is the table of presets, after Microsoft's SDKs and documentation.
// A row reads: name, what it is, and for each cloud the audience with the hosts
// that take it. Hosts that begin with "*." are shared by many customers, so a
// route names its own among them; the others are filled in. "{host}" in an
// audience stands for the route's host; [N] for digits or none, [region] for
// one word of letters. An audience without hosts is one that the API takes
// besides, when a route's own scope asks for it.
//
// Nothing in an audience is to be normalised: the slashes at its end count.

// catalogue returns all rows, in the order in which they are listed.
func catalogue() []api {
	var all []api
	for _, part := range [][]api{coreRows(), sqlRows(), dataRows(), messageRows(), monitorRows(), officeRows(), dynamicsRows(), workRows(), aiRows(), analyticsRows(), deviceRows(), otherRows()} {
		all = append(all, part...)
	}
	return all
}

func coreRows() []api {
	return []api{{
		name: "graph", doc: "Microsoft Graph.", appID: "00000003-0000-0000-c000-000000000000", eitherSlash: true, anyCase: true,
		public: takes("https://graph.microsoft.com", "graph.microsoft.com"),
		usgov:  takes("https://graph.microsoft.us", "graph.microsoft.us"),
		dod:    takes("https://dod-graph.microsoft.us", "dod-graph.microsoft.us"),
		china:  takes("https://microsoftgraph.chinacloudapi.cn", "microsoftgraph.chinacloudapi.cn"),
	}, {
		name: "arm", doc: "Azure Resource Manager.", appID: "797f4846-ba00-4fd7-ba43-dac1f8f63013", eitherSlash: true, anyCase: true,
		public: append(takes("https://management.azure.com", "management.azure.com"), takes("https://management.core.windows.net/")...),
		usgov:  append(takes("https://management.usgovcloudapi.net", "management.usgovcloudapi.net"), takes("https://management.core.usgovcloudapi.net/")...),
		china:  append(takes("https://management.chinacloudapi.cn", "management.chinacloudapi.cn"), takes("https://management.core.chinacloudapi.cn/")...),
	}, {
		name: "keyvault", doc: "Key Vault.", appID: "cfa8b339-82a2-471a-a3c9-0fc0be7a4093",
		public: takes("https://vault.azure.net", "*.vault.azure.net"),
		usgov:  takes("https://vault.usgovcloudapi.net", "*.vault.usgovcloudapi.net"),
		china:  takes("https://vault.azure.cn", "*.vault.azure.cn"),
	}, {
		name: "managedhsm", doc: "Key Vault Managed HSM.",
		public: takes("https://managedhsm.azure.net", "*.managedhsm.azure.net"),
		usgov:  takes("https://managedhsm.usgovcloudapi.net", "*.managedhsm.usgovcloudapi.net"),
		china:  takes("https://managedhsm.azure.cn", "*.managedhsm.azure.cn"), // by analogy
	}}
}

func sqlRows() []api {
	const postgres, mysql = "*.postgres.database", "*.mysql.database"
	return []api{{
		name: "sql", doc: "Azure SQL and Managed Instance: a protocol of its own (TDS), under sql:.", kind: "sql", appID: "022907d3-0f1b-48f7-badc-1ba6abab6d66",
		public: takes("https://database.windows.net/", "*.database.windows.net"),
		usgov:  takes("https://database.usgovcloudapi.net/", "*.database.usgovcloudapi.net"),
		china:  takes("https://database.chinacloudapi.cn/", "*.database.chinacloudapi.cn"),
	}, {
		name: "synapse-sql", doc: "SQL pools of Synapse: a protocol of its own (TDS), under sql:.", kind: "sql",
		public: takes("https://database.windows.net/", "*.sql.azuresynapse.net"),
		usgov:  takes("https://database.usgovcloudapi.net/", "*.sql.azuresynapse.usgovcloudapi.net"),
		china:  takes("https://database.chinacloudapi.cn/", "*.sql.azuresynapse.azure.cn"),
	}, {
		name: "postgres", doc: "Azure Database for PostgreSQL: the token is the password, in a protocol of its own.", kind: "other", appID: "123cd850-d9df-40bd-94d5-c9f07b7fa203",
		public: takes("https://ossrdbms-aad.database.windows.net", postgres+".azure.com"),
		usgov:  takes("https://ossrdbms-aad.database.usgovcloudapi.net", postgres+".usgovcloudapi.net"),
		china:  takes("https://ossrdbms-aad.database.chinacloudapi.cn", postgres+".chinacloudapi.cn"),
	}, {
		name: "mysql", doc: "Azure Database for MySQL: the token is the password, in a protocol of its own.", kind: "other", appID: "123cd850-d9df-40bd-94d5-c9f07b7fa203",
		public: takes("https://ossrdbms-aad.database.windows.net", mysql+".azure.com"),
		usgov:  takes("https://ossrdbms-aad.database.usgovcloudapi.net", mysql+".usgovcloudapi.net"),
		china:  takes("https://ossrdbms-aad.database.chinacloudapi.cn", mysql+".chinacloudapi.cn"),
	}, { // that the audience is the same in the other clouds is not documented
		name: "redis", doc: "Azure Cache for Redis: the token is the password, in a protocol of its own.", kind: "other", appID: "acca5fbb-b7e4-4009-81f1-37e38fd66d78",
		public: takes("https://redis.azure.com", "*.redis.cache.windows.net", "*.redis.azure.net"),
		usgov:  takes("https://redis.azure.com", "*.redis.cache.usgovcloudapi.net"),
		china:  takes("https://redis.azure.com", "*.redis.cache.chinacloudapi.cn"),
	}}
}

func dataRows() []api {
	five := func(suffixes ...string) []site { // the five services of a storage account
		s := site{audience: "https://storage.azure.com"}
		for _, suffix := range suffixes {
			for _, service := range []string{"blob", "queue", "table", "file", "dfs"} {
				s.hosts = append(s.hosts, "*."+service+"."+suffix)
			}
		}
		return []site{s}
	}
	return []api{{
		name: "storage", doc: "Blob, Queue, Table, File and Data Lake storage.", appID: "e406a681-f3d4-42a8-90b6-c2b029497af1", eitherSlash: true, hostToo: true,
		public: five("core.windows.net", "storage.azure.net"), // the latter: accounts with DNS zones
		usgov:  five("core.usgovcloudapi.net"),
		china:  five("core.chinacloudapi.cn"),
		quirk: quirk{
			why:       "Storage refuses tokens on calls without x-ms-version",
			fill:      []Param{{"X-Ms-Version", "2021-12-02"}},
			fillFiles: []Param{{"X-Ms-Version", "2022-11-02"}, {"X-Ms-File-Request-Intent", "backup"}},
		},
	}, {
		name: "cosmos", doc: "Cosmos DB (SQL API); name the account's own host, not a region's.", appID: "a232010e-820c-4083-83bb-3ace5fc29d0b",
		public: append(takes("https://{host}", "*.documents.azure.com"), takes("https://cosmos.azure.com")...),
		usgov:  append(takes("https://{host}", "*.documents.azure.us"), takes("https://cosmos.azure.com")...),
		china:  append(takes("https://{host}", "*.documents.azure.cn"), takes("https://cosmos.azure.com")...),
		quirk: quirk{
			why:    "Cosmos DB takes the token in a form of its own, with x-ms-date and x-ms-version",
			format: "type%3Daad%26ver%3D1.0%26sig%3D{token}",
			fill:   []Param{{"X-Ms-Version", "2018-12-31"}}, date: "X-Ms-Date",
		},
	}, {
		name: "appconfig", doc: "App Configuration.", appID: "35ffadb3-7fc1-497e-b61b-381d28e744cc", hostToo: true,
		public: append(takes("https://appconfig.azure.com", "*.azconfig.io"), takes("https://azconfig.io")...),
		usgov:  append(takes("https://appconfig.azure.us", "*.azconfig.azure.us"), takes("https://azconfig.azure.us")...),
		china:  append(takes("https://appconfig.azure.cn", "*.azconfig.azure.cn"), takes("https://azconfig.azure.cn")...),
	}, {
		name: "acr", doc: "Container Registry; its layers come from a storage host that it redirects to, by links that need no token.", appID: "6a0ec4d3-30cb-4a83-91c0-ae56bc0e3d26",
		public: takes("https://containerregistry.azure.net", "*.azurecr.io"),
		usgov:  takes("https://containerregistry.azure.net", "*.azurecr.us"),
		china:  takes("https://containerregistry.azure.net", "*.azurecr.cn"),
		quirk: quirk{
			why:      "a registry takes Entra's token in exchange for its own alone",
			registry: true,
		},
	}}
}

func messageRows() []api {
	bus, gov, china := "*.servicebus.windows.net", "*.servicebus.usgovcloudapi.net", "*.servicebus.chinacloudapi.cn"
	return []api{{ // the SDKs ask for the public audience in every cloud, other tools for the cloud's own
		name: "servicebus", doc: "Service Bus, by HTTP.", appID: "80a10ef9-8168-493d-abf9-3297c4ef6e3c", eitherSlash: true,
		public: takes("https://servicebus.azure.net/", bus),
		usgov:  append(takes("https://servicebus.azure.net/", gov), takes("https://servicebus.usgovcloudapi.net")...),
		china:  append(takes("https://servicebus.azure.net/", china), takes("https://servicebus.chinacloudapi.cn")...),
	}, {
		name: "eventhubs", doc: "Event Hubs, by HTTP.", appID: "80369ed6-5f11-4dd9-bef3-692475845e77", eitherSlash: true,
		public: append(takes("https://eventhubs.azure.net/", bus), takes("https://servicebus.azure.net/")...),
		usgov:  append(takes("https://eventhubs.azure.net/", gov), takes("https://eventhubs.usgovcloudapi.net")...),
		china:  append(takes("https://eventhubs.azure.net/", china), takes("https://eventhubs.chinacloudapi.cn")...),
	}, {
		name: "eventgrid", doc: "Event Grid topics and domains.",
		public: takes("https://eventgrid.azure.net", "*.eventgrid.azure.net"),
		usgov:  append(takes("https://eventgrid.azure.net", "*.eventgrid.azure.us"), takes("https://eventgrid.azure.us")...),
		china:  append(takes("https://eventgrid.azure.net", "*.eventgrid.azure.cn"), takes("https://eventgrid.azure.cn")...),
	}, {
		name: "signalr", doc: "SignalR Service.",
		public: takes("https://signalr.azure.com", "*.service.signalr.net"),
	}, {
		name: "webpubsub", doc: "Web PubSub.",
		public: takes("https://webpubsub.azure.com", "*.webpubsub.azure.com"),
	}, {
		name: "communication", doc: "Communication Services.", eitherSlash: true,
		public: takes("https://communication.azure.com/", "*.communication.azure.com"),
	}}
}

func monitorRows() []api {
	return []api{{
		name: "loganalytics", doc: "Queries to Log Analytics.", appID: "ca7f3f0b-7d91-482c-8e09-c5d840d0eac5", anyCase: true,
		public: append(takes("https://api.loganalytics.io", "api.loganalytics.io", "api.loganalytics.azure.com"), takes("https://api.loganalytics.azure.com")...),
		usgov:  takes("https://api.loganalytics.us", "api.loganalytics.us"),
		china:  takes("https://api.loganalytics.azure.cn", "api.loganalytics.azure.cn"),
	}, {
		name: "appinsights", doc: "Queries to Application Insights.", anyCase: true,
		public: takes("https://api.applicationinsights.io", "api.applicationinsights.io"),
		usgov:  takes("https://api.applicationinsights.us", "api.applicationinsights.us"),
		china:  takes("https://api.applicationinsights.azure.cn", "api.applicationinsights.azure.cn"),
	}, {
		name: "monitor-ingest", doc: "Ingestion of logs and metrics by Azure Monitor.", eitherSlash: true,
		public: takes("https://monitor.azure.com/", "*.ingest.monitor.azure.com"),
		usgov:  takes("https://monitor.azure.us/", "*.ingest.monitor.azure.us"),
		china:  takes("https://monitor.azure.cn/", "*.ingest.monitor.azure.cn"),
	}, {
		name: "defender", doc: "Defender for Endpoint and Defender XDR.", appID: "fc780465-2017-40d4-a0c5-307022471b92", anyCase: true,
		public: append(takes("https://api.securitycenter.microsoft.com", "api.securitycenter.microsoft.com", "api.security.microsoft.com"), takes("https://api.security.microsoft.com")...),
		usgov:  takes("https://api-gov.securitycenter.microsoft.us", "api-gov.securitycenter.microsoft.us"),
	}, {
		name: "attestation", doc: "Azure Attestation.",
		public: takes("https://attest.azure.net", "*.attest.azure.net"),
		usgov:  takes("https://attest.azure.us", "*.attest.azure.us"),
		china:  takes("https://attest.azure.cn", "*.attest.azure.cn"), // by analogy
	}}
}

// The Government Community Cloud (GCC) is the public cloud of Entra with hosts
// of its own; these stand under usgov too, where the documentation lists them.
func officeRows() []api {
	gcc := takes("https://analysis.usgovcloudapi.net/powerbi/api", "api.powerbigov.us")
	audit := takes("https://manage-gcc.office.com", "manage-gcc.office.com")
	return []api{{
		name: "sharepoint", doc: "SharePoint and OneDrive by REST; wants a certificate or a federated token, not a secret.", appID: "00000003-0000-0ff1-ce00-000000000000", eitherSlash: true, anyCase: true,
		public: takes("https://{host}", "*.sharepoint.com"),
		usgov:  takes("https://{host}", "*.sharepoint.us"),
		dod:    takes("https://{host}", "*.sharepoint-mil.us"),
		china:  takes("https://{host}", "*.sharepoint.cn"),
	}, {
		name: "exchange", doc: "Exchange Web Services.", appID: "00000002-0000-0ff1-ce00-000000000000", eitherSlash: true, anyCase: true,
		public: takes("https://outlook.office365.com", "outlook.office365.com"),
		usgov:  takes("https://outlook.office365.us", "outlook.office365.us"),
		dod:    takes("https://outlook-dod.office365.us", "outlook-dod.office365.us"),
		china:  takes("https://partner.outlook.cn", "partner.outlook.cn"),
	}, {
		name: "o365mgmt", doc: "Office 365 Management Activity.", appID: "c5393580-f805-4401-95e8-94b7a6ef2fc2", anyCase: true,
		public: append(takes("https://manage.office.com", "manage.office.com"), audit...),
		usgov:  append(takes("https://manage.office365.us", "manage.office365.us"), audit...),
		dod:    takes("https://manage.protection.apps.mil", "manage.protection.apps.mil"),
	}, {
		name: "powerbi", doc: "Power BI.", appID: "00000009-0000-0000-c000-000000000000", anyCase: true,
		public: append(takes("https://analysis.windows.net/powerbi/api", "api.powerbi.com"), gcc...),
		usgov:  append(takes("https://high.analysis.usgovcloudapi.net/powerbi/api", "api.high.powerbigov.us"), gcc...),
		dod:    takes("https://mil.analysis.usgovcloudapi.net/powerbi/api", "api.mil.powerbigov.us"),
		china:  takes("https://analysis.chinacloudapi.cn/powerbi/api", "api.powerbi.cn"),
	}, {
		name: "fabric", doc: "Microsoft Fabric.", anyCase: true,
		public: append(takes("https://api.fabric.microsoft.com", "api.fabric.microsoft.com"), takes("https://analysis.windows.net/powerbi/api")...),
	}, {
		name: "onelake", doc: "OneLake, by the interface of Data Lake storage.", eitherSlash: true,
		public: takes("https://storage.azure.com", "onelake.dfs.fabric.microsoft.com", "*.dfs.fabric.microsoft.com"),
		quirk:  quirk{why: "OneLake refuses tokens on calls without x-ms-version", fill: []Param{{"X-Ms-Version", "2021-12-02"}}},
	}}
}

func dynamicsRows() []api {
	return []api{{
		name: "dataverse", doc: "Dataverse and Dynamics 365; [N] is the region's number.", appID: "00000007-0000-0000-c000-000000000000", eitherSlash: true, anyCase: true,
		public: takes("https://{host}", "*.crm[N].dynamics.com"), // crm9 is GCC
		usgov:  takes("https://{host}", "*.crm.microsoftdynamics.us", "*.crm9.dynamics.com"),
		dod:    takes("https://{host}", "*.crm.appsplatform.us"),
		china:  takes("https://{host}", "*.crm.dynamics.cn"),
	}, {
		name: "businesscentral", doc: "Business Central.", anyCase: true,
		public: takes("https://api.businesscentral.dynamics.com", "api.businesscentral.dynamics.com"),
	}, { // the host of the US Government is not documented
		name: "finops", doc: "Dynamics 365 Finance and Operations.", eitherSlash: true, anyCase: true,
		public: takes("https://{host}", "*.operations.dynamics.com", "*.operations.[region].dynamics.com", "*.cloudax.dynamics.com"),
		usgov:  takes("https://{host}", "*.operations.dynamics.us"),
		china:  takes("https://{host}", "*.operations.dynamics.cn"),
	}, {
		name: "powerplatform", doc: "Power Platform.", appID: "8578e004-a5c6-46e7-913e-12f58912df43", anyCase: true,
		public: takes("https://api.powerplatform.com", "api.powerplatform.com", "*.api.powerplatform.com"),
	}, {
		name: "powerapps", doc: "Power Apps.", eitherSlash: true, anyCase: true,
		public: takes("https://service.powerapps.com/", "api.powerapps.com"),
	}, {
		name: "flow", doc: "Power Automate.", eitherSlash: true, anyCase: true,
		public: takes("https://service.flow.microsoft.com/", "api.flow.microsoft.com"),
	}}
}

func workRows() []api {
	const databricks = "2ff814a6-3304-4ab8-85cb-cd0e6f879c1d"
	const spToken = "X-Databricks-Azure-Sp-Management-Token"
	const aks = "6dae42f8-4368-4678-94ff-3960e28e3630"
	return []api{{
		name: "databricks", doc: "Azure Databricks workspaces and accounts.", appID: databricks,
		public: takes(databricks, "*.azuredatabricks.net"),
		usgov:  takes(databricks, "*.databricks.azure.us"),
		china:  takes(databricks, "*.databricks.azure.cn"),
		quirk: quirk{second: spToken, secondWith: "X-Databricks-Azure-Workspace-Resource-Id", secondScope: map[string]string{
			// The doubled slash is Databricks' own: the audience ends in one.
			"public": "https://management.core.windows.net//.default", "usgov": "https://management.usgovcloudapi.net/.default",
			"usgov-dod": "https://management.usgovcloudapi.net/.default", "china": "https://management.chinacloudapi.cn/.default",
		}},
	}, {
		name: "azuredevops", doc: "Azure DevOps Services.", appID: "499b84ac-1321-427f-aa17-267ca6975798", anyCase: true,
		public: append(takes("499b84ac-1321-427f-aa17-267ca6975798", "dev.azure.com", "vssps.dev.azure.com", "vsrm.dev.azure.com", "feeds.dev.azure.com", "pkgs.dev.azure.com",
			"*.dev.azure.com", "*.visualstudio.com"), takes("https://app.vssps.visualstudio.com")...),
		quirk: quirk{
			why: "Azure DevOps answers a bad token with a sign-in page instead of a 401",
			set: []Param{{"X-Tfs-Fedauthredirect", "Suppress"}}, signIn: true,
		},
	}, {
		name: "aks-aad", doc: "API servers of AKS with Entra.", appID: aks,
		public: takes(aks, "*.azmk8s.io"),
		usgov:  takes(aks, "*.cx.aks.containerservice.azure.us"),
		china:  takes(aks, "*.cx.prod.service.azk8s.cn"),
		quirk:  quirk{why: "the API server's certificate is of the cluster's own CA, and tls.ca_file does not name it", ownCA: true},
	}, {
		name: "batch", doc: "Azure Batch.", eitherSlash: true, anyCase: true,
		public: takes("https://batch.core.windows.net/", "*.batch.azure.com"),
		usgov:  takes("https://batch.core.usgovcloudapi.net/", "*.batch.usgovcloudapi.net"),
		china:  takes("https://batch.chinacloudapi.cn/", "*.batch.chinacloudapi.cn"),
	}, { // the Government's hosts: those of Teams in GCC High and DoD, from older documentation
		name: "bot", doc: "Bot Connector; a bot of many tenants uses the tenant botframework.com.",
		public: takes("https://api.botframework.com", "api.botframework.com", "smba.trafficmanager.net"),
		usgov:  takes("https://api.botframework.us", "smba.infra.gov.teams.microsoft.us"),
		dod:    takes("https://api.botframework.us", "smba.infra.dod.teams.microsoft.us"),
	}}
}

func aiRows() []api {
	const gov, china = "https://cognitiveservices.azure.us", "https://cognitiveservices.azure.cn"
	cognitive := takes("https://cognitiveservices.azure.com", "*.openai.azure.com", "*.cognitiveservices.azure.com", "*.services.ai.azure.com")
	return []api{{
		name: "cognitive", doc: "Azure AI services.", appID: "7d312290-28c8-473c-a0ed-8e53749b6d6d",
		public: cognitive, usgov: takes(gov, "*.cognitiveservices.azure.us", "*.openai.azure.us"), china: takes(china, "*.cognitiveservices.azure.cn", "*.openai.azure.cn"),
	}, {
		name: "openai", doc: "Azure OpenAI.", appID: "7d312290-28c8-473c-a0ed-8e53749b6d6d",
		public: cognitive, usgov: takes(gov, "*.openai.azure.us", "*.cognitiveservices.azure.us"), china: takes(china, "*.openai.azure.cn", "*.cognitiveservices.azure.cn"),
	}, {
		name: "foundry", doc: "Projects of AI Foundry; for the models below the same hosts, use openai.",
		public: takes("https://ai.azure.com", "*.services.ai.azure.com"),
	}, {
		name: "azureml", doc: "Azure Machine Learning.",
		public: takes("https://ml.azure.com", "*.api.azureml.ms", "*.inference.ml.azure.com"),
		usgov:  takes("https://ml.azure.us", "*.api.ml.azure.us", "*.inference.ml.azure.us"),
		china:  takes("https://ml.azure.cn", "*.api.ml.azure.cn", "*.inference.ml.azure.cn"),
	}, {
		name: "search", doc: "Azure AI Search.", appID: "880da380-985e-4198-81b9-e05b1cc53158", anyCase: true,
		public: takes("https://search.azure.com", "*.search.windows.net"),
		usgov:  takes("https://search.azure.us", "*.search.windows.us", "*.search.azure.us"),
		china:  takes("https://search.azure.cn", "*.search.azure.cn"),
	}}
}

func analyticsRows() []api {
	return []api{{
		name: "kusto", doc: "Azure Data Explorer and Eventhouses of Fabric.", appID: "2746ea77-4702-4b45-80ca-3c97e680e8b7", hostToo: true,
		public: takes("https://kusto.kusto.windows.net", "*.kusto.windows.net", "*.kusto.fabric.microsoft.com"),
		usgov:  takes("https://kusto.kusto.usgovcloudapi.net", "*.kusto.usgovcloudapi.net"),
		china:  takes("https://kusto.kusto.chinacloudapi.cn", "*.kusto.chinacloudapi.cn"),
	}, {
		name: "synapse", doc: "Synapse workspaces.",
		public: takes("https://dev.azuresynapse.net", "*.dev.azuresynapse.net"),
		usgov:  takes("https://dev.azuresynapse.usgovcloudapi.net", "*.dev.azuresynapse.usgovcloudapi.net"),
		china:  takes("https://dev.azuresynapse.azure.cn", "*.dev.azuresynapse.azure.cn"),
	}, {
		name: "purview", doc: "Microsoft Purview.", appID: "73c2949e-da2d-457a-9607-fcc665198967",
		public: takes("https://purview.azure.net", "*.purview.azure.com"),
		usgov:  takes("https://purview.azure.us", "*.purview.azure.us"),
		china:  takes("https://purview.azure.cn", "*.purview.azure.cn"), // by analogy
	}}
}

func deviceRows() []api {
	return []api{{
		name: "digitaltwins", doc: "Digital Twins.",
		public: takes("https://digitaltwins.azure.net", "*.digitaltwins.azure.net"),
	}, {
		name: "iothub", doc: "IoT Hub.",
		public: takes("https://iothubs.azure.net", "*.azure-devices.net"),
	}, {
		name: "dps", doc: "IoT Hub Device Provisioning.",
		public: takes("https://azure-devices-provisioning.net", "*.azure-devices-provisioning.net"),
	}}
}

func otherRows() []api {
	return []api{{
		name: "maps", doc: "Azure Maps; wants x-ms-client-id, the account's client ID.",
		public: takes("https://atlas.microsoft.com", "atlas.microsoft.com", "*.atlas.microsoft.com"),
		usgov:  takes("https://atlas.azure.us", "atlas.azure.us"),
		quirk:  quirk{why: "Azure Maps wants x-ms-client-id beside the token", needs: "X-Ms-Client-Id"},
	}, {
		name: "fhir", doc: "FHIR services of Health Data Services.", eitherSlash: true,
		public: takes("https://{host}", "*.fhir.azurehealthcareapis.com"),
		usgov:  takes("https://{host}", "*.fhir.azurehealthcareapis.us"),
		china:  takes("https://{host}", "*.fhir.azurehealthcareapis.cn"), // by analogy
	}}
}
