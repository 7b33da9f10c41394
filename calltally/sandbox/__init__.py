"""Small stateful imitations of Vapi, Stripe, Twilio and Slack, built from their documentation alone.

Nothing here knows how calltally works inside, so a misreading of a provider shows up as a difference
between the two sides instead of being repeated on both.
"""
