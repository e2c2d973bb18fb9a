package main

import "github.com/gatehouse-id/gatehouse/oauth"

// backchannelFields say how an app asks people without a browser of theirs (CIBA).
type backchannelFields struct {
	DeliveryMode *string `name:"ciba-mode" aliases:"backchannel-token-delivery-mode" help:"How the app learns that a person has answered, with the grant type urn:openid:params:grant-type:ciba: poll or ping." placeholder:"MODE"`
	Notification *string `name:"ciba-notification-endpoint" aliases:"backchannel-client-notification-endpoint" help:"Where the server pings the app." placeholder:"URL"`
	RequestAlg   *string `name:"ciba-request-alg" aliases:"backchannel-authentication-request-signing-alg" help:"Refuse its CIBA requests unless they are signed by this algorithm: RS256, PS256, ES256 or EdDSA; empty for requests that are not signed." placeholder:"ALG"`
}

func (f *backchannelFields) apply(c *oauth.Client) {
	set(&c.DeliveryMode, f.DeliveryMode)
	set(&c.NotificationEndpoint, f.Notification)
	set(&c.BackchannelRequestAlg, f.RequestAlg)
}

// writeBackchannel shows what is set.
func writeBackchannel(row func(name, value string), c oauth.Client) {
	row("ciba_mode", c.DeliveryMode)
	row("ciba_notification_endpoint", c.NotificationEndpoint)
	row("ciba_request_alg", c.BackchannelRequestAlg)
}
