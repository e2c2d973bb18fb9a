package oauth

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

const nativeScheme = "com.example.app:/cb"

// native is an app on a person's device, with all three kinds of redirect (RFC 8252 §7).
func native(c *Client) {
	public(c)
	c.RedirectURIs = []string{nativeScheme, "http://127.0.0.1/cb", "http://[::1]/cb", "https://app.example.test/open"}
}

func TestNativeAppSignsIn(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, native)
		for _, redirect := range []string{nativeScheme, "http://127.0.0.1:51004/cb", "http://127.0.0.1:9/cb", "http://127.0.0.1/cb", "http://[::1]:51004/cb", "https://app.example.test/open"} {
			v := c.params("redirect_uri", redirect)
			w := b.get(h, "/authorize?"+v.Encode())
			at := must(url.Parse(w.Header().Get("Location")))
			if at.Path == "/consent" {
				if err := h.Approve(t.Context(), at.Query().Get("i"), b.session); err != nil {
					t.Fatal(err)
				}
				w = b.get(h, h.ResumePath(at.Query().Get("i")))
				at = must(url.Parse(w.Header().Get("Location")))
			}
			if !strings.HasPrefix(w.Header().Get("Location"), redirect+"?") {
				t.Fatalf("%s: led to %s (%+v)", redirect, at, h.page)
			}
			form := exchangeForm(at.Query().Get("code"))
			form.Set("redirect_uri", redirect)
			if a := h.post(t, "/token", c, form); a.status != http.StatusOK {
				t.Errorf("%s: %d %v", redirect, a.status, a.body)
			}
		}
	})
}

// Another app on the device has registered the scheme, or listens on the port, and gets the answer: it has a code and no verifier (RFC
// 8252 §8.1).
func TestInterceptedCodeOfNativeAppIsWorthNothing(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, native)
		for name, edits := range map[string][]string{
			"no challenge": {"code_challenge", "", "code_challenge_method", ""}, "plain": {"code_challenge", testVerifier, "code_challenge_method", "plain"},
			"no method": {"code_challenge_method", ""},
		} {
			q := b.authorize(t, h, c.params(append(edits, "redirect_uri", "https://app.example.test/open")...))
			if q.Get("error") != "invalid_request" || q.Get("code") != "" {
				t.Errorf("%s: got %v", name, q)
			}
		}
		for name, verifier := range map[string]string{"no verifier": "", "another verifier": strings.Repeat("x", 43), "the challenge": challengeOf(testVerifier)} {
			v := c.params("redirect_uri", nativeScheme)
			form := exchangeForm(b.allows(t, v).Get("code"))
			form.Set("redirect_uri", nativeScheme)
			form.Set("code_verifier", verifier)
			if a := h.post(t, "/token", c, form); a.status != http.StatusBadRequest || a.str("error") != "invalid_grant" {
				t.Errorf("%s: got %d %v", name, a.status, a.body)
			}
		}
	})
}

// What anybody on the device can pose as is not let in on the strength of an old consent (RFC 8252 §8.6).
func TestImpersonatedNativeAppGetsNoCodeUnasked(t *testing.T) {
	t.Parallel()
	each(t, func(t *testing.T, h *harness) {
		b, c := h.person(t), h.client(t, native)
		b.consent(t, c)
		for redirect, want := range map[string]string{nativeScheme: "/consent", "http://127.0.0.1:5000/cb": "/consent", "https://app.example.test/open": "/open"} {
			w := b.get(h, "/authorize?"+c.params("redirect_uri", redirect).Encode())
			if at := must(url.Parse(w.Header().Get("Location"))); at.Path != want {
				t.Errorf("%s: led to %s, want %s", redirect, at, want)
			}
			q := must(url.Parse(b.get(h, "/authorize?"+c.params("redirect_uri", redirect, "prompt", "none").Encode()).Header().Get("Location"))).Query()
			if (q.Get("error") == "consent_required") != (want == "/consent") {
				t.Errorf("%s with prompt=none: got %v", redirect, q)
			}
		}
	})
}

func TestRedirectsOfOtherAppsOnTheDeviceAreRefused(t *testing.T) {
	t.Parallel()
	h := embedded(t)
	b, c := h.person(t), h.client(t, native)
	for name, redirect := range map[string]string{
		"longer scheme": "com.example.app.evil:/cb", "shorter scheme": "com.example:/cb", "another path": "com.example.app:/cb/x", "authority": "com.example.app://cb",
		"three slashes": "com.example.app:///cb", "upper case": "COM.EXAMPLE.APP:/cb", "query": "com.example.app:/cb?x=1", "fragment": "com.example.app:/cb#x",
		"loopback by name": "http://localhost:5000/cb", "loopback over https": "https://127.0.0.1:5000/cb", "short form": "http://127.1:5000/cb", "decimal": "http://2130706433:5000/cb",
		"octal": "http://0177.0.0.1:5000/cb", "all addresses": "http://0.0.0.0:5000/cb", "another loopback": "http://127.0.0.2:5000/cb", "long IPv6": "http://[0:0:0:0:0:0:0:1]:5000/cb",
		"mapped IPv6": "http://[::ffff:127.0.0.1]:5000/cb", "zone": "http://[::1%25lo]:5000/cb", "empty port": "http://127.0.0.1:/cb", "long port": "http://127.0.0.1:500000/cb",
		"user name": "http://127.0.0.1:5000@evil.example.test/cb", "suffix": "http://127.0.0.1.evil.example.test:5000/cb", "claimed https, another port": "https://app.example.test:8443/open",
	} {
		if w := b.get(h, "/authorize?"+c.params("redirect_uri", redirect).Encode()); w.Code != http.StatusBadRequest || w.Header().Get("Location") != "" {
			t.Errorf("%s: %s: got %d to %q, want a page with 400", name, redirect, w.Code, w.Header().Get("Location"))
		}
	}
}

func TestRedirectsThatNativeAppsCannotRegister(t *testing.T) {
	t.Parallel()
	for redirect, want := range map[string]bool{
		"com.example.app:/cb": true, "com.example.app:/": true, "com.example.app://cb": true, "org.example:/x?y=1": true, "http://127.0.0.1/cb": true, "http://127.0.0.1:8080/cb": true,
		"http://[::1]/cb": true, "http://localhost/cb": true, "https://app.example.test/open": true,
		"myapp:/cb": false, "myapp://cb": false, "javascript:alert(1)": false, "data:text/html,x": false, "file:///cb": false, "intent://cb#Intent;end": false, "about:blank": false,
		"urn:ietf:wg:oauth:2.0:oob": false, "com.example.app:/cb#x": false, "http://192.168.0.7/cb": false, "http://app.example.test/cb": false, "http://127.0.0.1.example.test/cb": false,
		"http://2130706433/cb": false, "com.example.app:/../cb": false, "com.example.app:/*": false, "//app.example.test/cb": false, "": false,
	} {
		if err := validateRedirectURI(redirect); (err == nil) != want {
			t.Errorf("%q: got %v, want accepted: %v", redirect, err, want)
		}
	}
	for name, edit := range map[string]func(c *Client){
		"without PKCE": func(c *Client) { c.RequirePKCE = false }, "with a nonce in its place": func(c *Client) { c.Profile = ProfileOIDCBasic; c.RequirePKCE = false },
		"for itself": func(c *Client) { c.GrantTypes = append(c.GrantTypes, GrantClientCredentials) },
	} {
		c := Client{ID: "app", Name: "App", RequirePKCE: true}
		native(&c)
		if edit(&c); c.WithDefaults().Validate() == nil {
			t.Errorf("a native app %s was registered", name)
		}
	}
}
