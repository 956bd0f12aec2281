"""What each side serves: the models, the archives and the handlers that people use today."""
