package ui

import (
	"context"
	"crypto/rand"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/gatehouse-id/gatehouse/internal/cache"
	"github.com/gatehouse-id/gatehouse/internal/db"
	"github.com/gatehouse-id/gatehouse/internal/db/dbtest"
)

// Every test of this package runs on SQLite and the cache in memory; these, the ways that people go, also on Postgres and
// Redis. A test joins them by a line, if it does not wait for the cache to forget: Redis goes by its own clock.
func TestOnPostgresAndRedis(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(t *testing.T){
		"sign in":                     TestSignIn,
		"sign in to an app":           TestSignInToApp,
		"sign in with a code":         TestSignInWithCode,
		"two tabs":                    TestTwoTabs,
		"select an account":           TestSelectAccount,
		"sign out":                    TestSignOut,
		"one-time password":           TestOneTimePassword,
		"register":                    TestRegister,
		"overview":                    TestOverview,
		"profile":                     TestProfile,
		"preferences":                 TestPreferences,
		"password":                    TestPasswordChange,
		"two-step sign-in":            TestTwoStepSetup,
		"email":                       TestEmailChange,
		"sessions":                    TestSessions,
		"agents":                      TestAgents,
		"activity":                    TestActivity,
		"this was not me":             TestThisWasNotMe,
		"download my data":            TestDownloadMyData,
		"delete my account":           TestDeleteMyAccount,
		"keep my account":             TestKeepMyAccount,
		"attack: account by guessing": TestSecondFactorGuessed,
		"attack: mail bombing":        TestMailBombing,
	} {
		t.Run(name, test)
	}
}

// stores gives a world its database and cache.
func stores(t testing.TB, now func() time.Time) (*db.DB, cache.Cache) {
	t.Helper()
	if !strings.HasPrefix(t.Name(), "TestOnPostgresAndRedis/") {
		return dbtest.OpenSQLite(t), cache.NewMemory(now)
	}
	url := os.Getenv("GATEHOUSE_TEST_REDIS")
	if url == "" {
		t.Fatal("GATEHOUSE_TEST_REDIS is not set: run the tests with `make test`, which starts a private Redis")
	}
	redis, err := cache.OpenRedis(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = redis.Close() })
	return dbtest.OpenPostgres(t), apart{redis, "ui-test:" + rand.Text() + ":"}
}

// apart keeps the worlds that share a Redis from meeting in it: they have the same people at the same address.
type apart struct {
	cache.Cache
	prefix string
}

func (c apart) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	return c.Cache.Put(ctx, c.prefix+key, value, ttl)
}

func (c apart) Get(ctx context.Context, key string) (value []byte, ok bool, err error) {
	return c.Cache.Get(ctx, c.prefix+key)
}

func (c apart) GetMany(ctx context.Context, keys ...string) ([][]byte, error) {
	mine := make([]string, len(keys))
	for i, key := range keys {
		mine[i] = c.prefix + key
	}
	return c.Cache.GetMany(ctx, mine...)
}

func (c apart) Take(ctx context.Context, key string) (value []byte, ok bool, err error) {
	return c.Cache.Take(ctx, c.prefix+key)
}

func (c apart) Claim(ctx context.Context, key string) (value []byte, first, ok bool, err error) {
	return c.Cache.Claim(ctx, c.prefix+key)
}

func (c apart) Add(ctx context.Context, key string, ttl time.Duration) (bool, error) {
	return c.Cache.Add(ctx, c.prefix+key, ttl)
}

func (c apart) Allow(ctx context.Context, key string, limit int, window time.Duration) (time.Duration, error) {
	return c.Cache.Allow(ctx, c.prefix+key, limit, window)
}

func (c apart) Delete(ctx context.Context, key string) error {
	return c.Cache.Delete(ctx, c.prefix+key)
}
