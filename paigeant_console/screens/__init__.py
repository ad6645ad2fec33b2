"""Screens of the console: each shows one view, talks to the feed and never to a transport."""
