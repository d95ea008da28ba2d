"""The settings of a node: frozen, read once from defaults, a TOML file, variables and flags, in that order.

settings      the declaration of every setting: the one file to edit when a setting is added
setting       a setting with all that follows from its declaration
declaration   what a declaration says, and the types of values
checks, rates what a value must be beyond its type
declared_models  the tables of models that are loaded on demand
declared_prices  the tables of prices
llama_options    how llama.cpp runs one model
sizes, durations  sizes of memory and durations as texts
live          the settings of a running node, and their reload
load          from the four sources to `Settings`, with the source of each value
environment   settings as variables, and the environment of a child process
show          a configuration as TOML or JSON, with secrets covered
masks         secrets in values, covered
nearest       the known name that a wrong one probably means
handbook      the table of all settings
user_folders  the folders of the user, for caches and data
"""

from llmactors.config.declared_models import DeclaredModel
from llmactors.config.declared_prices import DeclaredPrice
from llmactors.config.durations import parse_duration
from llmactors.config.environment import CACHE_VARIABLE, URL_VARIABLE, as_variables, child_environment
from llmactors.config.live import LiveSettings, Reloaded
from llmactors.config.llama_options import LlamaOptions, check_options
from llmactors.config.load import Configuration, check_file, configure, load
from llmactors.config.rates import parse_rate
from llmactors.config.setting import Setting
from llmactors.config.settings import KEYS_IN_REDIS, SETTINGS, Settings
from llmactors.config.sizes import parse_size

__all__ = [
    "CACHE_VARIABLE",
    "KEYS_IN_REDIS",
    "SETTINGS",
    "URL_VARIABLE",
    "Configuration",
    "DeclaredModel",
    "DeclaredPrice",
    "LiveSettings",
    "LlamaOptions",
    "Reloaded",
    "Setting",
    "Settings",
    "as_variables",
    "check_file",
    "check_options",
    "child_environment",
    "configure",
    "load",
    "parse_duration",
    "parse_rate",
    "parse_size",
]
