package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// acceptance are the tests that a reviewer can demand (egress reference §11),
// row by row, each with those that prove it: the file, and the test in it.
func acceptance() [][]string {
	return [][]string{
		1: {"e2e/tunnels_test.go: TestThousandQueriesArriveByteForByteThroughEveryDoor", "e2e/regress_go_test.go: TestCVE_2022_2880_CVE_2026_39825_QueryGoesOutByteForByte"},
		2: {"e2e/tunnels_test.go: TestConnectOverHTTP2IsRefusedAtTheListenerAndInATunnel", "e2e/tunnels_test.go: TestNothingButItsOwnHostsCallsIsTakenInsideATunnel"},
		3: {"e2e/matrix_test.go: TestEveryClientOfTheTableGoesThroughExec", "e2e/matrix_test.go: TestTheTableOfClientsIsTheOneThatIsTested"},
		4: {"e2e/cashape_test.go: TestClientsTakeTheCAForRoutedHostsAlone"},
		5: {"e2e/tunnels_test.go: TestTicketOfOneHostIsNoWayIntoAnothersTunnel"},
		6: {"proxy/replay_test.go: TestRefusedCallIsSentAgainWhole", "proxy/replay_test.go: TestStormOfRefusalsCostsOneToken",
			"e2e/judged_test.go: TestUploadsThatWereReadInFullBeforeTheRefusalArriveIntact", "e2e/judged_test.go: TestUploadUnderWayAtTheRefusalIsHealed"},
		7: {"proxy/replay_test.go: TestBodyOverTheLimitPassesTheRefusalAndRenewsBehind"},
		8: {"e2e/hostile_test.go: TestHostileTableGetsNoTokenToAWrongPlaceThroughAnyDoor", "e2e/hostile_guard_test.go: TestHostileTableGetsNoFurtherWithACallersCredential",
			"proxy/callers_test.go: TestNoSpellingOfACallersCredentialReachesTheUpstream"},
		9: {"e2e/leak_test.go: TestNothingSecretShowsInLogsAnswersMetricsOrCommands", "e2e/leakkinds_test.go: TestNothingSecretShowsOfAnyKindOfCredential",
			"e2e/regress_deputy_test.go: TestCVE_2024_39315_NoPageOfTheAdminPortShowsAToken", "e2e/matrix_test.go: TestEveryClientOfTheTableGoesThroughExec"},
		10: {"e2e/tunnels_test.go: TestTokenThatComesBackIsKeptFromTheCaller"},
		11: {"e2e/hostile_test.go: TestHostileTableGetsNoTokenToAWrongPlaceThroughAnyDoor", "e2e/regress_go_test.go: TestCVE_2025_47910_PagesAreRefusedWithoutExceptions"},
		12: {"egress/public_test.go: TestWhatNoRouteNamesReachesPublicAddressesAlone", "egress/public_test.go: TestNoAnswerCanChangeBetweenCheckAndDial"},
		13: {"routes/path_test.go: TestNoSpellingOfADeniedPathIsAllowed", "gate/rules_test.go: TestRulesJudgeEveryReadingOfAPath", "gate/batch_test.go: TestHostileBatchesAreRefused"},
		14: {"routes/policy_test.go: TestRemarksUponRulesAgreeWithWhatTheyMatch", "routes/parse_test.go: TestFilesReadAsTheirArchivesSay"},
		15: {"e2e/slow_test.go: TestSlowClientsAreHeldOffAndAGoodOneIsNot"},
		16: {"e2e/shutdown_test.go: TestShutdownWithTunnelsSocketsAndUploadsTruncatesNothing"},
		17: {"e2e/h2spec_test.go: TestHTTP2IsAsGoodAsGosOwnServer", "e2e/grpc_test.go: TestGRPCInteroperates"},
		18: {"e2e/shutdown_test.go: TestPostsOutliveIdleConnectionsThatTheUpstreamCloses"},
	}
}

func TestEveryRowOfTheAcceptanceHasAProofThatExists(t *testing.T) {
	rows := acceptance()
	if len(rows) != 19 {
		t.Errorf("%d rows, want 18", len(rows)-1)
	}
	for n, proofs := range rows {
		if n > 0 && len(proofs) == 0 {
			t.Errorf("row %d has no proof", n)
		}
		for _, p := range proofs {
			path, name, _ := strings.Cut(p, ": ")
			source, err := os.ReadFile(filepath.Join("..", filepath.FromSlash(path)))
			if err != nil || !strings.Contains(string(source), "\nfunc "+name+"(t *testing.T)") {
				t.Errorf("row %d: %s holds no %s; %v", n, path, name, err)
			}
		}
	}
}
