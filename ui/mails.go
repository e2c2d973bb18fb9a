package ui

import "context"

func (p *Pages) mailVerify(ctx context.Context, to, link string) error  { return nil }
func (p *Pages) mailAccountExists(ctx context.Context, to string) error { return nil }
func (p *Pages) mailReset(ctx context.Context, to, link string) error   { return nil }
