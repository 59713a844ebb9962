"""The road's vehicle: sessions over PowerShell remoting, uploads, and detached jobs; it knows nothing of WSUS.

With ``lab/`` it is the only room that imports pypsrp, requests and spnego.
"""
