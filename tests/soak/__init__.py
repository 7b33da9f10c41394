"""The whole installation under mixed traffic for minutes or days: does it stay exact, quick and small?"""
