def save_plot(results, file):
    pass
