"""How long the times of the faults are. Pure."""

import attrs


@attrs.frozen(kw_only=True)
class Profile:
    """The times of one run, in seconds."""

    name: str
    factor: float
    """How long the times of this profile are, compared with those of failoverbench's published runs."""
    outage_factor: float
    """The same for the outage of S15 and its calls, which take longest."""
    token_s: float = 0.015
    slack_s: float = 0.0
    """What is added to every limit: work takes as long in a short profile as in a long one."""

    ends_outage: bool = False
    """Whether the calls of S15 go on until the model is used again, and end then: a busy machine takes longer."""

    def scaled(self, seconds: float) -> float:
        """A time of the published profile as it is in this one."""
        return seconds * self.factor

    def scaled_outage(self, seconds: float) -> float:
        """The same for a time of the outage."""
        return seconds * self.outage_factor


FULL = Profile(name="full", factor=1.0, outage_factor=1.0)
"""The times of failoverbench's published runs."""
QUICK = Profile(name="quick", factor=0.3, outage_factor=0.05, token_s=0.002, slack_s=10.0, ends_outage=True)
"""For tests: all sixteen in some seconds. The limits are loose, so that a busy machine reaches them too."""
SHORT = Profile(name="short", factor=0.2, outage_factor=0.2, token_s=0.015, slack_s=2.0)
"""For runs with kills: long enough that a killed process comes back in the middle of a fault."""
PROFILES = {profile.name: profile for profile in (FULL, QUICK, SHORT)}
