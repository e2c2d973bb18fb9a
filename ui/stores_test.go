package ui

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/cache/cachetest"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// Every test of this package runs on SQLite and the cache in memory; these, the ways that people and attackers go, also on
// Postgres and Redis. A test joins them by its name.
func TestOnPostgresAndRedis(t *testing.T) {
	t.Parallel()
	for _, test := range []func(t *testing.T){
		// Signing in and out.
		TestSignIn, TestSignInToApp, TestSignInWithCode, TestTwoTabs, TestSelectAccount, TestSignOut, TestOneTimePassword, TestRegister,
		TestForgotPassword, TestVerifyLinkExpires, TestDeviceIsConnected, TestLogoutByApp,
		TestSecondFactorSkippedByDirectURL, TestSecondFactorSkippedByOtherPath, TestSecondFactorGuessed, TestTicketReplayedAfterSignIn,
		TestTicketOutlivesPasswordChange, TestTicketTooOld, TestSessionFixationAtLogin, TestAccountEnumeration, TestMailScannerOpensLinks,
		TestMailBombing, TestConsentGivenInAnotherTab, TestAccountChosenInAnotherTab, TestGuessingDeviceCodesIsLimited,

		// Passkeys, and what is missing when an app asks for more.
		TestPasskeyOnly, TestPasskeyAsSecondStep, TestPasskeyPages, TestFirstPasswordByPasskey, TestMaxAgeTogetherWithACR,
		TestPasskeyAfterSignInElsewhere, TestStepUpAsksForWhatIsMissing, TestPasswordSessionIsAskedForTheSecondFactorOnly, TestStepUpRefused,
		TestStepUpByAuthenticatorApp, TestServerPolicy,
		TestSecondStepIsNotSkipped, TestPasskeyAnswersAreBoundToTheBrowser, TestEnrollingNeedsFreshProof, TestCopiedPasskeyIsTold,
		TestAttackLockedOutByCodes, TestAttackPasskeyAddedByAPhishedCode,

		// Mail codes and links.
		TestSignInByMailCode, TestMailCodeThenSecondFactor, TestMailCodesForMailboxesAreLimited, TestEmailChange, TestInvitation,
		TestInvitationsThatAreOver,
		TestAttackAccountFoundByMailCode, TestAttackMailCodeInAnotherBrowser, TestAttackCodesGuessedOnEveryPath,
		TestAttackAddressConfirmedInAnotherSession, TestAttackMailboxFilledByEmailChange, TestAttackSignUpWhereRegistrationIsOff,
		TestAttackInvitedByPostedRights,

		// The account.
		TestOverview, TestProfile, TestPreferences, TestPasswordChange, TestTwoStepSetup, TestConfirm, TestSessions, TestPlaces, TestAgents, TestWhoActsThroughAnAgentIsShown, TestConsentInDetail,
		TestActivity, TestThisWasNotMe, TestThisWasNotMyFactor, TestDisownFactorInActivity, TestAddressChangeIsToldBefore, TestAttackUnaskedVerificationMail,
		TestAttackMistypedAddressStopsItsChange, TestAttackCodesGuessedWithoutWork,
		TestAttackPostedVerifiedFlags, TestAttackPasswordChangeWithoutCode, TestAttackSkipConfirmByDirectPost,
		TestAttackRemoveSecondStepWithPasswordSession, TestAttackEndAnotherPersonsSession, TestAttackWithdrawAnotherPersonsApp,
		TestAttackAgentOfSomebodyElseFromTheirOwnAccount, TestAttackMailboxFilledByDisowning,

		// Requests of apps without a browser.
		TestRequests, TestBindingMessageMarkup, TestPromptBombingByMail, TestRequestOfSomebodyElse,

		// Privacy.
		TestDownloadMyData, TestTendPrivacyMakesWhatIsLeft, TestDeleteMyAccount, TestKeepMyAccount, TestClosedByAThief,
		TestAttackExportOfAnotherPerson, TestAttackExportWithoutFreshProof, TestAttackExportFillsTheDatabase, TestAttackKeepAfterGrace,
		TestAttackKeepWithoutSecondStep, TestAttackDeleteWithoutFreshProof, TestAttackTokensOfAClosedAccount,

		// Groups, roles and attributes.
		TestAttributesPage, TestRequiredAttributesAreAskedFor, TestConsentNamesAttributes, TestGroupAdmin, TestStrangerInvitedToGroup, TestAttackSignUpByInvitationOfAFormerAdmin, TestAppForAnotherGroup, TestAttackGroupPagesOfOthers,

		// Signing in elsewhere.
		TestSignInElsewhere, TestSignInElsewhereForTwoAppsAtOnce, TestNewPersonByTrustedProvider,
		TestNewPersonByUntrustedProviderProvesTheAddress, TestLinkByAddressWhereTheOperatorSaidSo, TestConnectExistingAccount,
		TestSecondFactorElsewhere, TestAttackMaxAgeByProviderWithoutTime, TestProviderSaysNo, TestReturnWithoutATrip, TestDisabledProviderStopsEverything,
		TestDomainGoesToItsProvider, TestLinkAndUnlinkInTheAccount, TestLastWayInStays, TestConfirmElsewhere, TestGitHub,
		TestSecondStepAfterSilentProviderIsFresh,
		TestAttackTakeoverByAddressOfTheProvider, TestAttackGuestLeftBehind, TestAttackForgedIDToken, TestAttackUserInfoOfSomebodyElse,
		TestAttackMixUp, TestAttackReplayedState, TestAttackStateOfAnotherBrowser, TestAttackTripBegunByAnotherSite,
		TestAttackAnswersOfTheProvider, TestAttackDomainOfAnotherProvider, TestAttackRegistrationByProviderWhenOff,
		TestAttackLinkIntoAnotherSession, TestAttackMicrosoftTenant, TestAttackMarkupFromTheProvider,
		TestAttackSilentReturnForAFreshSignIn, TestAttackPhishingResistanceByWordOfProvider, TestAttackFreshProofBySilentProvider,
		TestAttackWaysAroundTheCompany, TestAttackNewPasswordByAnotherWayIn, TestAttackPreHijackedAccountAndMailCode,
		TestAttackChallengeSkippedByConnecting, TestAttackWayBackAfterDisowning, TestAttackMaxAgeBySilentProvider,
		TestAttackSlowProviderIsAskedOnce,

		// Languages, as people have chosen them.
		TestLanguageChosen, TestMailSpeaksToPerson,

		// Abuse.
		TestChallengeAtSignUp, TestSignUpByPatience, TestChallengeAfterFailures, TestRegistrationsOfOneNetworkAreLimited,
		TestAttackSignUpWithoutWork, TestAttackPasswordSprayedFromOneNetwork, TestAttackAnswerOfAnotherForm, TestAttackLockedOutWithoutWork,
	} {
		_, name, _ := strings.Cut(runtime.FuncForPC(reflect.ValueOf(test).Pointer()).Name(), "ui.Test")
		t.Run(name, test)
	}
}

// stores gives a world its database and cache.
func stores(t testing.TB, now func() time.Time) (*db.DB, cache.Cache) {
	t.Helper()
	if strings.HasPrefix(t.Name(), "TestOnPostgresAndRedis/") {
		return dbtest.OpenPostgres(t), cachetest.Redis(t, now)
	}
	return dbtest.OpenSQLite(t), cache.NewMemory(now)
}
