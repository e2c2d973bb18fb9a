package identity

import (
	"strings"
	"testing"
)

func TestTriviallyDecoratedPasswords(t *testing.T) {
	t.Parallel()
	me := []string{"ada.lovelace@example.com", "Ada Lovelace"}
	for _, c := range []struct{ password, want string }{
		{"", KeyRequired},
		{"short", KeyPasswordShort},
		{"äöüäöüäöüäö", KeyPasswordShort},
		{strings.Repeat("xq7 ", 33), KeyPasswordLong},
		{strings.Repeat("x", 1<<20), KeyPasswordLong},
		{"bad\xff utf-8 here", KeyCharacters},
		{"with\nline break", KeyCharacters},
		{"administrator", KeyPasswordCommon},
		{"1q2w3e4r5t6y", KeyPasswordCommon},
		{"ADMINISTRATOR", KeyPasswordCommon},
		{"password1234", KeyPasswordCommon},
		{"Passw0rd!2024", KeyPasswordCommon},
		{"P@$$w0rd2024!", KeyPasswordCommon},
		{"!!!password!!!", KeyPasswordCommon},
		{"Summer2024!!", KeyPasswordCommon},
		{"Welcome12345!", KeyPasswordCommon},
		{"Christopher1!", KeyPasswordCommon},
		{"letmeinmonkey", KeyPasswordCommon},
		{"thisismypassword", KeyPasswordCommon},
		{"gatehouse2026", KeyPasswordCommon},
		{"passwordpassword", KeyPasswordCommon},
		{"dragondragondragon", KeyPasswordPattern},
		{"aaaaaaaaaaaa", KeyPasswordPattern},
		{"abcabcabcabc", KeyPasswordPattern},
		{"xq7xq7xq7xq7xq7", KeyPasswordPattern},
		{"abcdefghijkl", KeyPasswordPattern},
		{"098765432109", KeyPasswordPattern},
		{"zxcvbnm,./asdf", KeyPasswordPattern},
		{";lkjhgfdsa.,mn", KeyPasswordPattern},
		{"ada.lovelace1!", KeyPasswordPersonal},
		{"LovelaceAda2024", KeyPasswordPersonal},
		{"adalovelace@example.com", KeyPasswordPersonal},

		{goodPassword, ""},
		{otherPassword, ""},
		{"correct horse battery staple", ""},
		{"k7mQ9vX2pLw4", ""},
		{"My cat eats 3 fish!", ""},
		{"пароль-из-леса", ""},
		{"lovelace kontra melone fisch", ""},
		{"  spaces around, kept  ", ""},
	} {
		if got := passwordProblem(c.password, me); got != c.want {
			t.Errorf("passwordProblem(%.40q) = %q, want %q", c.password, got, c.want)
		}
	}
}

func TestPasswordLengthCountsCharacters(t *testing.T) {
	t.Parallel()
	const twelve = "ñßøæþðłŋħĸđ€" // 12 characters, 25 bytes
	if got := passwordProblem(twelve, nil); got != "" {
		t.Errorf("twelve characters: %q", got)
	}
	if got := passwordProblem("n\u0303n\u0303n\u0303n\u0303n\u0303n\u0303", nil); got != KeyPasswordShort {
		t.Errorf("six characters in decomposed form: %q, want %q", got, KeyPasswordShort)
	}
	if got := passwordProblem(strings.Repeat("ж€qя", 32), nil); got == KeyPasswordLong {
		t.Error("128 characters of two and three bytes are too long")
	}
}

func TestPasswordStrength(t *testing.T) {
	t.Parallel()
	last := 0
	for _, p := range []string{"", "password", "Passw0rd!2024", "demo person secret", "a-very-secret-pass", "kontra-melone-72-fisch"} {
		got := PasswordStrength(p)
		if got < last {
			t.Errorf("PasswordStrength(%q) = %d, less than the weaker one before (%d)", p, got, last)
		}
		last = got
	}
	if last != 4 {
		t.Errorf("the strongest rates %d, want 4", last)
	}
	if got := PasswordStrength("Lovelace Ada 1815", "Ada Lovelace"); got > 1 {
		t.Errorf("the person's own name rates %d, want at most 1", got)
	}
}

func TestStrengthMeterIsBounded(t *testing.T) {
	t.Parallel()
	inputs := make([]string, 1000)
	for i := range inputs {
		inputs[i] = strings.Repeat("ab1 ", 1000)
	}
	for _, p := range []string{strings.Repeat("a", 1<<20), strings.Repeat("4a@1!", 1<<18), strings.Repeat("\xff", 1<<20), strings.Repeat("a\u0301", 1<<20)} {
		if got := PasswordStrength(p, inputs...); got > 1 {
			t.Errorf("PasswordStrength of a megabyte = %d, want at most 1", got)
		}
	}
}

func FuzzPasswordStrength(f *testing.F) {
	for _, s := range []string{"password1234", "P@$$w0rd", "qwertyuiop[]", "1990", "aaaa\u0301", "\xff", "ЖЖЖ 9012"} {
		f.Add(s, "ada@example.com")
	}
	f.Fuzz(func(t *testing.T, p, input string) {
		got := PasswordStrength(p, input)
		if got < 0 || got > 4 {
			t.Errorf("PasswordStrength(%q) = %d", p, got)
		}
		if passwordProblem(p, []string{input}) != "" && got > 1 {
			t.Errorf("%q is refused but rates %d", p, got)
		}
	})
}

func BenchmarkPasswordStrength(b *testing.B) {
	long := strings.Repeat("q4w1zxe3r7tty0!upas$", 7)[:128]
	for b.Loop() {
		PasswordStrength(long)
	}
}
